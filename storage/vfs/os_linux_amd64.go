package vfs

// Numbers of system calls on this architecture that package syscall does not name.
const (
	sysSyncfs  = 306
	sysPreadv2 = 327
)
