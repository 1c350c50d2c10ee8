package files

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/entrepot-hub/entrepot/connectors"
)

// s3Store keeps files in a bucket. A file without a name is a multipart upload
// that is not completed, or, below the size of one part, memory. To publish it
// is one request with If-None-Match: *, so that a name that is taken stays.
type s3Store struct {
	client *s3.Client
	http   *http.Client
	loc    location
	part   int
}

func s3Fields() []connectors.Field {
	return []connectors.Field{
		{Name: "endpoint", Kind: connectors.KindString, Example: "https://minio.example:9000", Description: "the store's address when it is not Amazon's"},
		{Name: "region", Kind: connectors.KindString, Default: "us-east-1", Example: "eu-central-1", Description: "the bucket's region"},
		{Name: "path_style", Kind: connectors.KindBool, Default: false, Example: "true", Description: "put the bucket's name into the path, not into the host name, as most stores other than Amazon's want it"},
		{Name: "access_key", Kind: connectors.KindSecret, Example: "${env:AWS_ACCESS_KEY_ID}", Description: "key to log in with; without it the usual ways are tried: environment, profile, role of the machine"},
		{Name: "secret_key", Kind: connectors.KindSecret, Example: "${env:AWS_SECRET_ACCESS_KEY}", Description: "the secret of access_key"},
		{Name: "session_token", Kind: connectors.KindSecret, Example: "${env:AWS_SESSION_TOKEN}", Description: "of temporary keys"},
		{Name: "part", Kind: connectors.KindSize, Default: int64(8 << 20), Min: 5 << 20, Max: 1 << 30, Example: "16MiB", Description: "size of the parts in which larger files are sent; each open file holds one in memory"},
	}
}

func checkS3(cfg connectors.Config) error {
	if cfg.Has("access_key") != cfg.Has("secret_key") {
		return errors.New("access_key and secret_key belong together: give both or none")
	}
	if e := cfg.String("endpoint"); e != "" && !strings.HasPrefix(e, "http://") && !strings.HasPrefix(e, "https://") {
		return fmt.Errorf("endpoint %q is no URL, want https://host:port", e)
	}
	return nil
}

func openS3(ctx context.Context, l location, cfg connectors.Config) (*s3Store, error) {
	load := []func(*awsconfig.LoadOptions) error{awsconfig.WithHTTPClient(awshttp.NewBuildableClient()), awsconfig.WithRegion(cfg.String("region"))}
	if cfg.Has("access_key") {
		var words [3]string
		for i, name := range []string{"access_key", "secret_key", "session_token"} {
			text, err := cfg.Secret(name).Reveal()
			if err != nil {
				return nil, connectors.Fatalf("s3.%s: %w", name, err)
			}
			words[i] = text
		}
		load = append(load, awsconfig.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(words[0], words[1], words[2])))
	}
	common, err := awsconfig.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, connectors.Fatalf("s3: %w", err)
	}
	// A client of our own, with what the environment says of certificates, so
	// that its connections can be closed.
	web := &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}
	if c, ok := common.HTTPClient.(*awshttp.BuildableClient); ok {
		web.Transport = c.GetTransport()
	}
	client := s3.NewFromConfig(common, func(o *s3.Options) {
		o.HTTPClient = web
		o.UsePathStyle = cfg.Bool("path_style")
		if e := cfg.String("endpoint"); e != "" {
			o.BaseEndpoint = aws.String(e)
		}
		// Content-MD5 guards what is sent, and every store knows that one.
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		o.DisableLogOutputChecksumValidationSkipped = true
	})
	return &s3Store{client: client, http: web, loc: l, part: int(cfg.Size("part"))}, nil
}

// conditionProbe is written with If-None-Match: * at each start.
const conditionProbe = "_tmp/if-none-match"

// probe refuses a store that passes over If-None-Match: there a former owner
// could overwrite, and two tasks could pin different columns.
func (s *s3Store) probe(ctx context.Context) error {
	for range 2 {
		err := s.PutNew(ctx, "", conditionProbe, []byte("A second write of this object has to fail.\n"))
		if errors.Is(err, os.ErrExist) {
			return nil
		}
		if err != nil {
			return s.fault("write", conditionProbe, err)
		}
	}
	return connectors.Fatalf("%s: the store overwrites in spite of If-None-Match: *, so files cannot be published safely; use a store that knows conditional writes", s.loc)
}

func (s *s3Store) key(name string) string { return strings.TrimPrefix(path.Join(s.loc.dir, name), "/") }

// within is what the keys in a folder begin with.
func (s *s3Store) within(folder string) string {
	if key := s.key(folder); key != "" {
		return key + "/"
	}
	return ""
}

func (s *s3Store) Exists(ctx context.Context, name string) (bool, error) {
	_, err := s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.loc.bucket, Key: aws.String(s.key(name))})
	if err = s3Error(err); errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func (s *s3Store) Read(ctx context.Context, name string) ([]byte, error) {
	out, err := s.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &s.loc.bucket, Key: aws.String(s.key(name))})
	if err != nil {
		return nil, s3Error(err)
	}
	defer out.Body.Close()
	return io.ReadAll(out.Body)
}

func (s *s3Store) List(ctx context.Context, folder string) ([]string, error) {
	prefix := s.within(folder)
	var names []string
	pages := s3.NewListObjectsV2Paginator(s.client, &s3.ListObjectsV2Input{Bucket: &s.loc.bucket, Prefix: &prefix, Delimiter: aws.String("/")})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, s3Error(err)
		}
		for _, o := range page.Contents {
			names = append(names, strings.TrimPrefix(*o.Key, prefix))
		}
	}
	return names, nil
}

// Prepare has nothing to do: a bucket has no folders.
func (*s3Store) Prepare(context.Context, []string) error { return nil }

// Settle has nothing to do: what was answered is durable.
func (*s3Store) Settle(context.Context, []string) error { return nil }

func (s *s3Store) PutNew(ctx context.Context, _, name string, text []byte) error {
	_, err := s.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &s.loc.bucket, Key: aws.String(s.key(name)), Body: bytes.NewReader(text), IfNoneMatch: aws.String("*"), ContentMD5: contentMD5(text),
	})
	return s3Error(err)
}

func contentMD5(b []byte) *string {
	sum := md5.Sum(b)
	return aws.String(base64.StdEncoding.EncodeToString(sum[:]))
}

// Sweep aborts uploads that were begun and not completed. The store does not
// say which job has begun one, so one of another job that loads the same topic
// into the same URL is aborted too, and that job executes its plan again.
func (s *s3Store) Sweep(ctx context.Context, _ string, mine func(string) bool) error {
	if err := s.probe(ctx); err != nil {
		return err
	}
	pages := s3.NewListMultipartUploadsPaginator(s.client, &s3.ListMultipartUploadsInput{Bucket: &s.loc.bucket, Prefix: aws.String(s.within(""))})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err = s3Error(err); errors.Is(err, os.ErrNotExist) {
			return nil // what some stores say for none
		}
		if err != nil {
			return err
		}
		for _, u := range page.Uploads {
			if mine(path.Base(*u.Key)) {
				if err := s.abort(ctx, *u.Key, *u.UploadId); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (s *s3Store) abort(ctx context.Context, key, upload string) error {
	_, err := s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &s.loc.bucket, Key: &key, UploadId: &upload})
	if err = s3Error(err); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func (s *s3Store) Close(string) error {
	s.http.CloseIdleConnections()
	return nil
}

func (s *s3Store) fault(what, name string, err error) error {
	if connectors.ClassOf(err) == connectors.ClassFatal {
		return err
	}
	err = fmt.Errorf("%s %s/%s: %w", what, s.loc, name, err)
	var api smithy.APIError
	if !errors.As(err, &api) {
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		return connectors.Retry(0, err)
	}
	switch api.ErrorCode() {
	case "AccessDenied", "Forbidden", "NoSuchBucket", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidBucketName", "PermanentRedirect", "AuthorizationHeaderMalformed":
		return connectors.Fatal(err)
	}
	return connectors.Retry(0, err)
}

// s3Error tells apart what the callers decide by.
func s3Error(err error) error {
	if err == nil {
		return nil
	}
	var answer *smithyhttp.ResponseError
	status := 0
	if errors.As(err, &answer) {
		status = answer.HTTPStatusCode()
	}
	var api smithy.APIError
	code := ""
	if errors.As(err, &api) {
		code = api.ErrorCode()
	}
	switch {
	case code == "NoSuchBucket":
	case status == http.StatusPreconditionFailed:
		return fmt.Errorf("%w: %w", os.ErrExist, err)
	case status == http.StatusNotFound || code == "NoSuchUpload":
		return fmt.Errorf("%w: %w", os.ErrNotExist, err)
	}
	return err
}

func (s *s3Store) Create(ctx context.Context, _, target string) (pending, error) {
	return &s3File{store: s, ctx: ctx, key: s.key(target)}, nil
}

// s3File is an object on its way. Up to a part's size it is memory only.
type s3File struct {
	store  *s3Store
	ctx    context.Context // of Write, as io.Writer has none: that of Create
	key    string
	buf    []byte
	upload string // ID of the multipart upload; "" for none
	parts  []types.CompletedPart
}

func (f *s3File) Write(b []byte) (int, error) {
	f.buf = append(f.buf, b...)
	for len(f.buf) > f.store.part {
		ctx, cancel := context.WithTimeoutCause(f.ctx, partTimeout, errSlowPart)
		err := f.send(ctx, f.buf[:f.store.part])
		if err != nil && errors.Is(context.Cause(ctx), errSlowPart) {
			err = errSlowPart // and not the end of the plan's time
		}
		cancel()
		if err != nil {
			return 0, err
		}
		f.buf = append(f.buf[:0], f.buf[f.store.part:]...)
	}
	return len(b), nil
}

// partTimeout is the longest that one part may take.
const partTimeout = time.Minute

var errSlowPart = fmt.Errorf("a part is not sent after %v", partTimeout)

func (f *s3File) send(ctx context.Context, b []byte) error {
	s := f.store
	if f.upload == "" {
		out, err := s.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &s.loc.bucket, Key: &f.key})
		if err != nil {
			return s3Error(err)
		}
		f.upload = *out.UploadId
	}
	n := aws.Int32(int32(len(f.parts) + 1))
	out, err := s.client.UploadPart(ctx, &s3.UploadPartInput{
		Bucket: &s.loc.bucket, Key: &f.key, UploadId: &f.upload, PartNumber: n, Body: bytes.NewReader(b), ContentMD5: contentMD5(b),
	})
	if err != nil {
		return s3Error(err)
	}
	f.parts = append(f.parts, types.CompletedPart{ETag: out.ETag, PartNumber: n})
	return nil
}

// Complete sends the last part of an upload. A small file waits in memory.
func (f *s3File) Complete(ctx context.Context) error {
	if f.upload == "" || len(f.buf) == 0 {
		return nil
	}
	err := f.send(ctx, f.buf)
	f.buf = nil
	return err
}

func (f *s3File) Publish(ctx context.Context) error {
	s := f.store
	if f.upload == "" {
		_, err := s.client.PutObject(ctx, &s3.PutObjectInput{
			Bucket: &s.loc.bucket, Key: &f.key, Body: bytes.NewReader(f.buf), IfNoneMatch: aws.String("*"), ContentMD5: contentMD5(f.buf),
		})
		return s3Error(err)
	}
	_, err := s.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &s.loc.bucket, Key: &f.key, UploadId: &f.upload, IfNoneMatch: aws.String("*"), MultipartUpload: &types.CompletedMultipartUpload{Parts: f.parts},
	})
	if err = s3Error(err); err == nil {
		f.upload = ""
	}
	return err
}

func (f *s3File) Discard(ctx context.Context) error {
	f.buf = nil
	if f.upload == "" {
		return nil
	}
	if err := f.store.abort(ctx, f.key, f.upload); err != nil {
		return err
	}
	f.upload = ""
	return nil
}
