package vfs

// sysSyncfs is syncfs(2)'s number on this architecture.
const sysSyncfs = 306
