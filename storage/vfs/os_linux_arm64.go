package vfs

// Numbers of system calls on this architecture that package syscall does not name.
const (
	sysSyncfs  = 267
	sysPreadv2 = 286
)
