package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// bucketLibrary reads from a bucket. Each range is asked for with If-Match: the
// tag that was listed.
type bucketLibrary struct{ *s3Store }

func (s bucketLibrary) Folder(ctx context.Context, folder string) ([]shelved, error) {
	prefix := s.within(folder)
	var all []shelved
	pages := s3.NewListObjectsV2Paginator(s.client, &s3.ListObjectsV2Input{Bucket: &s.loc.bucket, Prefix: &prefix, Delimiter: aws.String("/")})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, s3Error(err)
		}
		for _, p := range page.CommonPrefixes {
			if name := strings.Trim(strings.TrimPrefix(aws.ToString(p.Prefix), prefix), "/"); name != "" {
				all = append(all, shelved{name: path.Join(folder, name), folder: true})
			}
		}
		for _, o := range page.Contents {
			if name := strings.TrimPrefix(aws.ToString(o.Key), prefix); name != "" && !strings.HasSuffix(name, "/") {
				all = append(all, shelved{name: path.Join(folder, name), size: aws.ToInt64(o.Size), mtime: aws.ToTime(o.LastModified), tag: aws.ToString(o.ETag)})
			}
		}
	}
	return sortShelved(all), nil
}

func (s bucketLibrary) Stat(ctx context.Context, name string) (shelved, error) {
	o, err := s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.loc.bucket, Key: aws.String(s.key(name))})
	if err != nil {
		return shelved{}, s3Error(err)
	}
	return shelved{name: name, size: aws.ToInt64(o.ContentLength), mtime: aws.ToTime(o.LastModified), tag: aws.ToString(o.ETag)}, nil
}

func (s bucketLibrary) Open(_ context.Context, e shelved) (volume, error) {
	return s3Volume{s, e}, nil
}

type s3Volume struct {
	bucketLibrary
	was shelved
}

func (v s3Volume) ReadAt(ctx context.Context, b []byte, at int64) (int, error) {
	if at >= v.was.size || len(b) == 0 {
		return 0, io.EOF
	}
	end := min(at+int64(len(b)), v.was.size)
	in := &s3.GetObjectInput{Bucket: &v.loc.bucket, Key: aws.String(v.key(v.was.name)), Range: aws.String(fmt.Sprintf("bytes=%d-%d", at, end-1))}
	if v.was.tag != "" {
		in.IfMatch = &v.was.tag
	}
	out, err := v.client.GetObject(ctx, in)
	if err = s3Error(err); errors.Is(err, os.ErrExist) { // the condition does not hold
		return 0, errChanged
	}
	if err != nil {
		return 0, err
	}
	defer out.Body.Close()
	if tag := aws.ToString(out.ETag); tag != v.was.tag && v.was.tag != "" { // of a store that passes over the condition
		return 0, errChanged
	}
	n, err := io.ReadFull(out.Body, b[:end-at])
	if err == nil && n < len(b) {
		err = io.EOF
	}
	return n, err
}

func (v s3Volume) Close() error { return nil }
