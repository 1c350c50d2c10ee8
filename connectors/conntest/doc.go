// Package conntest holds what the tests of connectors share: the acceptance
// suite that each of them passes, and private servers to run it against.
//
// Goroutines: those of the servers' processes; they end with the test binary.
package conntest
