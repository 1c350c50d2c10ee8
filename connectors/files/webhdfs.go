package files

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"

	"github.com/entrepot-hub/entrepot/connectors"
)

// webStore keeps files in HDFS, over its REST interface. A file without a name
// is one under _tmp; to publish it is to rename it with the option NONE, which
// does not overwrite.
type webStore struct {
	http  *http.Client
	loc   location
	base  []string // of each namenode: http://host:port/webhdfs/v1
	user  string
	token string // delegation token, a secret
}

func hdfsFields() []connectors.Field {
	return []connectors.Field{
		{Name: "user", Kind: connectors.KindString, Example: "loader", Description: "user to act as where HDFS trusts its clients; the name of the process's user when not given"},
		{Name: "delegation", Kind: connectors.KindSecret, Example: "${file:/run/secrets/hdfs.token}", Description: "webhdfs, swebhdfs: a delegation token to log in with, instead of user"},
	}
}

func openWeb(l location, user, token string) *webStore {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 16
	s := &webStore{loc: l, user: user, token: token, http: &http.Client{
		Transport: transport,
		// Redirects are followed by hand: only a datanode gets the data.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	scheme := strings.Replace(l.scheme, "webhdfs", "http", 1) // swebhdfs becomes shttp
	if scheme == "shttp" {
		scheme = "https"
	}
	for _, h := range l.hosts {
		s.base = append(s.base, scheme+"://"+h+"/webhdfs/v1")
	}
	return s
}

// remoteError is an exception of the namenode or a datanode.
type remoteError struct {
	Status    int
	Exception string `json:"exception"`
	Message   string `json:"message"`
}

func (e *remoteError) Error() string {
	first, _, _ := strings.Cut(e.Message, "\n")
	return fmt.Sprintf("%s (status %d): %s", e.Exception, e.Status, first)
}

// Unwrap tells apart what the callers decide by.
func (e *remoteError) Unwrap() error {
	switch e.Exception {
	case "FileAlreadyExistsException":
		return os.ErrExist
	case "FileNotFoundException":
		return os.ErrNotExist
	case "AccessControlException", "SecurityException", "AuthorizationException", "InvalidToken":
		return os.ErrPermission
	}
	return nil
}

// elsewhere says that another namenode has to be asked.
func (e *remoteError) elsewhere() bool {
	return e.Exception == "StandbyException" || e.Exception == "RetriableException"
}

// url of an operation on a name at one namenode. It may hold the token and is
// never shown.
func (s *webStore) url(base, op, name string, params []string) string {
	q := url.Values{"op": {op}}
	if s.token != "" {
		q.Set("delegation", s.token)
	} else if s.user != "" {
		q.Set("user.name", s.user)
	}
	for i := 0; i < len(params); i += 2 {
		q.Set(params[i], params[i+1])
	}
	return base + (&url.URL{Path: s.path(name)}).EscapedPath() + "?" + q.Encode()
}

func (s *webStore) path(name string) string { return path.Join(s.loc.dir, name) }

// send makes one request. Its errors hold no URL, for the token's sake.
func (s *webStore) send(ctx context.Context, method, target string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, errors.New("the address cannot be used")
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/octet-stream")
	}
	res, err := s.http.Do(req)
	if u, ok := errors.AsType[*url.Error](err); ok {
		return nil, fmt.Errorf("%s to %s: %w", method, req.URL.Host, u.Err)
	}
	if err != nil || res.StatusCode < 400 {
		return res, err
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	var answer struct{ RemoteException *remoteError }
	if json.Unmarshal(text, &answer) != nil || answer.RemoteException == nil {
		answer.RemoteException = &remoteError{Exception: "no exception", Message: res.Status}
		if res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden {
			answer.RemoteException.Exception = "SecurityException"
		}
	}
	answer.RemoteException.Status = res.StatusCode
	return nil, answer.RemoteException
}

// ask makes a request at the namenode that answers.
func (s *webStore) ask(ctx context.Context, method, op, name string, params ...string) (*http.Response, error) {
	var last error
	for _, base := range s.base {
		res, err := s.send(ctx, method, s.url(base, op, name, params), nil)
		remote, ok := errors.AsType[*remoteError](err)
		if err == nil || ok && !remote.elsewhere() || ctx.Err() != nil {
			return res, err
		}
		last = err
	}
	return nil, last
}

// boolean makes a request whose answer is true or false.
func (s *webStore) boolean(ctx context.Context, method, op, name string, params ...string) (bool, error) {
	res, err := s.ask(ctx, method, op, name, params...)
	if err != nil {
		return false, err
	}
	defer res.Body.Close()
	var answer struct{ Boolean bool }
	if res.ContentLength == 0 {
		return true, nil // RENAME with options has no answer but its status
	}
	err = json.NewDecoder(io.LimitReader(res.Body, 64<<10)).Decode(&answer)
	return answer.Boolean, err
}

func (s *webStore) Exists(ctx context.Context, name string) (bool, error) {
	res, err := s.ask(ctx, http.MethodGet, "GETFILESTATUS", name)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, res.Body.Close()
}

func (s *webStore) Read(ctx context.Context, name string) ([]byte, error) {
	res, err := s.open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	return io.ReadAll(res.Body)
}

// open asks for a file, or a part of it.
func (s *webStore) open(ctx context.Context, name string, params ...string) (*http.Response, error) {
	res, err := s.ask(ctx, http.MethodGet, "OPEN", name, params...)
	for range 2 { // to the datanode
		if err != nil || res.StatusCode != http.StatusTemporaryRedirect {
			break
		}
		to := res.Header.Get("Location")
		_ = res.Body.Close()
		res, err = s.send(ctx, http.MethodGet, to, nil)
	}
	return res, err
}

func (s *webStore) List(ctx context.Context, folder string) ([]string, error) {
	res, err := s.ask(ctx, http.MethodGet, "LISTSTATUS", folder)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var answer struct {
		FileStatuses struct {
			FileStatus []struct {
				PathSuffix string `json:"pathSuffix"`
			}
		}
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("the answer cannot be read: %w", err)
	}
	var names []string
	for _, f := range answer.FileStatuses.FileStatus {
		names = append(names, f.PathSuffix)
	}
	return names, nil
}

func (s *webStore) Prepare(ctx context.Context, folders []string) error {
	for _, f := range folders {
		made, err := s.boolean(ctx, http.MethodPut, "MKDIRS", f)
		if err != nil {
			return err
		}
		if !made {
			return fmt.Errorf("the folder %s is not made", s.path(f))
		}
	}
	return nil
}

// Settle has nothing to do: the namenode's journal has what it answered.
func (*webStore) Settle(context.Context, []string) error { return nil }

func (s *webStore) PutNew(ctx context.Context, tmp, name string, text []byte) error {
	if err := s.Prepare(ctx, []string{folderOf(tmp), folderOf(name)}); err != nil {
		return err
	}
	if err := s.put(ctx, tmp, bytes.NewReader(text)); err != nil {
		return err
	}
	err := s.rename(ctx, tmp, name)
	return errors.Join(err, s.remove(ctx, tmp))
}

// rename never overwrites.
func (s *webStore) rename(ctx context.Context, from, to string) error {
	_, err := s.boolean(ctx, http.MethodPut, "RENAME", from, "destination", s.path(to), "renameoptions", "NONE")
	return err
}

func (s *webStore) remove(ctx context.Context, name string) error {
	_, err := s.boolean(ctx, http.MethodDelete, "DELETE", name)
	return err
}

// put writes a whole file, in place of one that may be there: the namenode
// names a datanode, and that one takes the data.
func (s *webStore) put(ctx context.Context, name string, body io.Reader) error {
	res, err := s.ask(ctx, http.MethodPut, "CREATE", name, "overwrite", "true")
	if err != nil {
		return err
	}
	_ = res.Body.Close()
	to := res.Header.Get("Location")
	if res.StatusCode != http.StatusTemporaryRedirect || to == "" {
		return fmt.Errorf("the namenode names no datanode: status %s", res.Status)
	}
	if res, err = s.send(ctx, http.MethodPut, to, body); err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusCreated {
		return fmt.Errorf("the datanode has not taken the file: status %s", res.Status)
	}
	return nil
}

func (s *webStore) Sweep(ctx context.Context, tmpFolder string, mine func(string) bool) error {
	names, err := s.List(ctx, tmpFolder)
	for _, name := range names {
		if err == nil && mine(name) {
			err = s.remove(ctx, path.Join(tmpFolder, name))
		}
	}
	return err
}

func (s *webStore) Close(string) error {
	s.http.CloseIdleConnections()
	return nil
}

func (s *webStore) fault(what, name string, err error) error {
	return remoteFault(fmt.Errorf("%s %s/%s: %w", what, s.loc, name, err))
}

// remoteFault gives the error of a file system on the network its class.
func remoteFault(err error) error {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, os.ErrPermission):
		return connectors.Fatal(err)
	}
	return connectors.Retry(0, err)
}

func (s *webStore) Create(ctx context.Context, tmp, target string) (pending, error) {
	if err := s.Prepare(ctx, []string{folderOf(tmp)}); err != nil {
		return nil, err
	}
	from, to := io.Pipe()
	f := &webFile{store: s, tmp: tmp, target: target, pipe: to, sent: make(chan error, 1)}
	// The request lasts as long as the file is written, and no longer than the
	// plan may take: a datanode that takes nothing must not hold up its end.
	ctx, f.cancel = context.WithCancel(ctx)
	go func() {
		err := s.put(ctx, tmp, from)
		_ = from.CloseWithError(errors.Join(err, errSent))
		f.sent <- err
	}()
	return f, nil
}

// errSent is what a writer gets when the request has ended before it.
var errSent = errors.New("the request has ended")

// webFile is a file on its way: a goroutine sends what is written. Complete
// and Discard await it.
type webFile struct {
	store       *webStore
	tmp, target string
	pipe        *io.PipeWriter
	sent        chan error
	cancel      context.CancelFunc
	ended       bool
}

func (f *webFile) Write(b []byte) (int, error) { return f.pipe.Write(b) }

func (f *webFile) Complete(ctx context.Context) error {
	_ = f.pipe.Close()
	select {
	case err := <-f.sent:
		f.ended = true
		f.cancel()
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *webFile) Publish(ctx context.Context) error { return f.store.rename(ctx, f.tmp, f.target) }

func (f *webFile) Discard(ctx context.Context) error {
	if !f.ended {
		f.cancel()
		_ = f.pipe.CloseWithError(context.Canceled)
		<-f.sent
		f.ended = true
	}
	return f.store.remove(ctx, f.tmp)
}
