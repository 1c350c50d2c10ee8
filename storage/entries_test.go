package storage

import (
	"crypto/sha256"
	"testing"
)

// TestContents: what ReadContents tells of a log is what was appended to it,
// without what was superseded.
func TestContents(t *testing.T) {
	mem, want := offlineStore(t)
	all, err := ReadContents(mem, simDir)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || all[0].Log != "clicks-0" || len(all[0].Entries) != len(want) || len(all[1].Entries) != 0 {
		t.Fatalf("%+v, want the %d entries of clicks-0 and none of clicks-1", all, len(want))
	}
	for i, e := range all[0].Entries {
		w := EntrySum{uint64(i + 1), uint64(want[i].LeaderEpoch()), KindData, want[i].BaseOffset(), want[i].LeaderEpoch(), sha256.Sum256(want[i])}
		if e != w {
			t.Errorf("entry %d is %+v, want %+v", i+1, e, w)
		}
	}
}
