/* What librdkafka's performance tool takes from librdkafka's own headers, so
 * that it can be built against the library that Debian ships. */
#ifndef SHIM_RD_H
#define SHIM_RD_H
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define rd_snprintf snprintf
#define RD_MAX(a, b) ((a) > (b) ? (a) : (b))
#define RD_MIN(a, b) ((a) < (b) ? (a) : (b))
#endif
