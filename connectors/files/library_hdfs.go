package files

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"strconv"
	"time"

	"github.com/colinmarc/hdfs/v2"
)

// hdfsLibrary reads over HDFS's own protocol.
type hdfsLibrary struct{ *hdfsStore }

func (s hdfsLibrary) Folder(_ context.Context, folder string) ([]shelved, error) {
	infos, err := s.client.ReadDir(s.path(folder))
	if err != nil {
		return nil, err
	}
	var all []shelved
	for _, i := range infos {
		all = append(all, shelvedOf(path.Join(folder, i.Name()), i))
	}
	return sortShelved(all), nil
}

func shelvedOf(name string, i os.FileInfo) shelved {
	return shelved{name: name, folder: i.IsDir(), size: i.Size(), mtime: i.ModTime()}
}

func (s hdfsLibrary) Stat(_ context.Context, name string) (shelved, error) {
	i, err := s.client.Stat(s.path(name))
	if err != nil {
		return shelved{}, err
	}
	return shelvedOf(name, i), nil
}

func (s hdfsLibrary) Open(_ context.Context, e shelved) (volume, error) {
	f, err := s.client.Open(s.path(e.name))
	if err != nil {
		return nil, err
	}
	if now := shelvedOf(e.name, f.Stat()); now.print() != e.print() {
		_ = f.Close()
		return nil, errChanged
	}
	return hdfsVolume{f}, nil
}

// hdfsVolume reads the blocks that the file had when it was opened: they do not
// change, and are gone when the file is.
type hdfsVolume struct{ file *hdfs.FileReader }

func (v hdfsVolume) ReadAt(ctx context.Context, b []byte, at int64) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := v.file.SetDeadline(deadline); err != nil {
			return 0, err
		}
	}
	n, err := v.file.ReadAt(b, at)
	if n < len(b) && err == nil {
		err = io.EOF
	}
	return n, err
}

func (v hdfsVolume) Close() error { return v.file.Close() }

// webLibrary reads over HDFS's REST interface.
type webLibrary struct{ *webStore }

type webStatus struct {
	PathSuffix       string `json:"pathSuffix"`
	Type             string `json:"type"`
	Length           int64  `json:"length"`
	ModificationTime int64  `json:"modificationTime"`
}

func (w webStatus) shelved(name string) shelved {
	return shelved{name: name, folder: w.Type == "DIRECTORY", size: w.Length, mtime: time.UnixMilli(w.ModificationTime)}
}

// answer asks for JSON.
func (s webLibrary) answer(ctx context.Context, op, name string, into any) error {
	res, err := s.ask(ctx, http.MethodGet, op, name)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(into); err != nil {
		return fmt.Errorf("the answer cannot be read: %w", err)
	}
	return nil
}

func (s webLibrary) Folder(ctx context.Context, folder string) ([]shelved, error) {
	var answer struct {
		FileStatuses struct{ FileStatus []webStatus }
	}
	if err := s.answer(ctx, "LISTSTATUS", folder, &answer); err != nil {
		return nil, err
	}
	var all []shelved
	for _, f := range answer.FileStatuses.FileStatus {
		all = append(all, f.shelved(path.Join(folder, f.PathSuffix)))
	}
	return sortShelved(all), nil
}

func (s webLibrary) Stat(ctx context.Context, name string) (shelved, error) {
	var answer struct{ FileStatus webStatus }
	err := s.answer(ctx, "GETFILESTATUS", name, &answer)
	return answer.FileStatus.shelved(name), err
}

func (s webLibrary) Open(_ context.Context, e shelved) (volume, error) { return webVolume{s, e}, nil }

// webVolume makes a request for each range. The file is looked at again when
// it is read to its end.
type webVolume struct {
	webLibrary
	was shelved
}

func (v webVolume) ReadAt(ctx context.Context, b []byte, at int64) (int, error) {
	if at >= v.was.size || len(b) == 0 {
		return 0, io.EOF
	}
	want := min(int64(len(b)), v.was.size-at)
	res, err := v.open(ctx, v.was.name, "offset", strconv.FormatInt(at, 10), "length", strconv.FormatInt(want, 10))
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	n, err := io.ReadFull(res.Body, b[:want])
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
		return n, fmt.Errorf("%w: it ends at byte %d", errChanged, at+int64(n))
	case err == nil && n < len(b):
		err = io.EOF
	}
	return n, err
}

func (v webVolume) Close() error { return nil }
