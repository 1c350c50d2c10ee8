// Package identity is who a node is: the file node.json in its data directory,
// read before anything else there. It is written when the node's site begins or
// when the node joins one, and no more but to say that the site has grown: a node
// with another identity is another member of every Raft group.
//
// Goroutines: none.
package identity

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// File is the name of the file in the data directory.
const File = "node.json"

// version of the file that this package writes and reads.
const version = 1

// Node is a node's identity.
type Node struct {
	Version     int    `json:"version"`
	Cluster     string `json:"cluster"` // the site's cluster ID, 22 characters of base64
	Site        string `json:"site"`
	Name        string `json:"name"` // node.id of the configuration
	ID          int32  `json:"id"`   // the Kafka broker ID, from 1
	Incarnation uint32 `json:"incarnation"`
	// Nonce was drawn for this data directory; empty in one from before there
	// were several nodes.
	Nonce string `json:"nonce,omitempty"`
	// Grown says that the node began its site alone and has taken in others
	// since: without its own copy of the catalog it must not begin another one.
	Grown bool `json:"grown,omitempty"`
	// Founders are the nodes with which the site began, by ID: the first
	// members of the catalog's group, with which each of its replicas begins.
	Founders []Founder `json:"founders"`
}

// Founder is a node that was there when the site began.
type Founder struct {
	ID   int32  `json:"id"`
	Name string `json:"name"`
	Peer string `json:"peer,omitempty"` // host:port at that time
	Zone string `json:"zone,omitempty"`
	// Nonce was drawn for the node's data directory of that time.
	Nonce string `json:"nonce,omitempty"`
}

// New is the identity of a node of a site.
func New(cluster, site, name string, id int32, founders []Founder) Node {
	return Node{Version: version, Cluster: cluster, Site: site, Name: name, ID: id, Founders: founders}
}

// NewNonce draws what tells a data directory from every other.
func NewNonce() string { return NewCluster() }

// NewCluster draws a cluster ID in Kafka's form.
func NewCluster() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// Check says what is wrong with an identity that was read or received.
func (n Node) Check() error {
	switch {
	case n.Version != version:
		return fmt.Errorf("it is of version %d, this node reads version %d", n.Version, version)
	case n.Cluster == "" || n.Site == "" || n.Name == "":
		return errors.New("cluster, site or name is missing")
	case n.ID < 1:
		return fmt.Errorf("broker ID %d, want 1 or more", n.ID)
	case len(n.Founders) == 0:
		return errors.New("there are no founders")
	}
	for i, f := range n.Founders {
		if f.ID < 1 || f.Name == "" || i > 0 && f.ID <= n.Founders[i-1].ID {
			return fmt.Errorf("founder %d is %+v: want names, and IDs from 1 that rise", i, f)
		}
	}
	return nil
}

// Matches says what is wrong if the data directory is of another node than the
// one that is configured.
func (n Node) Matches(site, name string) error {
	if n.Site != site || n.Name != name {
		return fmt.Errorf("it belongs to node %s of site %s, this one is %s of site %s: set node.id and node.site to those, or choose another node.data_dir", n.Name, n.Site, name, site)
	}
	return nil
}

// Read finds the identity in a data directory; ok is false when there is none.
func Read(fsys vfs.FS, dir string) (n Node, ok bool, err error) {
	text, ok, err := ReadFile(fsys, path.Join(dir, File))
	if err != nil || !ok {
		return n, false, err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&n); err != nil {
		return n, false, fmt.Errorf("%s in %s: %w", File, dir, err)
	}
	if err := n.Check(); err != nil {
		return n, false, fmt.Errorf("%s in %s: %w", File, dir, err)
	}
	return n, true, nil
}

// Write makes an identity durable.
func Write(fsys vfs.FS, dir string, n Node) error {
	if err := n.Check(); err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	text, err := json.MarshalIndent(n, "", "  ")
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	return WriteFile(fsys, dir, File, append(text, '\n'))
}

// maxFile bounds what is read, in bytes.
const maxFile = 1 << 20

// ReadFile reads a small file whole; ok is false when there is none.
func ReadFile(fsys vfs.FS, name string) (text []byte, ok bool, err error) {
	f, err := fsys.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	size, err := f.Size()
	if err == nil && size > maxFile {
		err = fmt.Errorf("it has %d bytes, the most is %d", size, maxFile)
	}
	if err == nil {
		text = make([]byte, size)
		_, err = f.ReadAt(text, 0)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, false, fmt.Errorf("read %s: %w", name, err)
	}
	return text, true, nil
}

// WriteFile replaces a small file: after a crash it has the old text or the
// new one.
func WriteFile(fsys vfs.FS, dir, name string, text []byte) error {
	tmp := path.Join(dir, name+".tmp")
	if err := fsys.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write %s: %w", name, err)
	}
	f, err := fsys.Create(tmp)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	_, err = f.WriteGather([][]byte{text}, 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = fsys.Rename(tmp, path.Join(dir, name))
	}
	if err == nil {
		err = fsys.SyncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// Several reports whether the site had other nodes when this one became one of
// it, or has taken in others since. One in a later incarnation was taken in by
// others, the only founder among them.
func (n Node) Several() bool {
	return len(n.Founders) > 1 || n.Founders[0].ID != n.ID || n.Incarnation > 0 || n.Grown
}

// Members are the founders as members of Raft groups, each in its first
// incarnation.
func (n Node) Members() []uint64 {
	all := make([]uint64, len(n.Founders))
	for i, f := range n.Founders {
		all[i] = uint64(f.ID)
	}
	return all
}
