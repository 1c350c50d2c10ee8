package file

import (
	"syscall"
	"time"
)

// changed is when the file was last written or renamed, by its inode.
func (in *input) changed() (time.Time, bool) {
	info, err := in.f.Stat()
	if err != nil {
		return time.Time{}, false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return time.Time{}, false
	}
	return time.Unix(st.Ctim.Unix()), true
}
