package clock

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"cdc-sidecar/schema"
)

const (
	// manifest is the file that makes of what lies beside it an index. It is there between two lives only.
	manifest = "kept.clocks"
	// keptFormat is what the manifest begins with. Another number belongs to other records, or to another sense of theirs.
	keptFormat = "row clocks 1\n"
)

var (
	errNone   = errors.New("none were kept")
	errOthers = errors.New("they were kept of another journal, of another end of it, or by another program")
)

// fit is what must be the same when an index is taken over as when it was kept: then it knows all that the journal has.
type fit struct {
	Program string
	Office  schema.Office
	Role    schema.Role
	Epoch   uint64
	Last    uint64       // seq
	Stamp   schema.Stamp // a journal brought back from a copy may have given the same seq to something else
}

// kept is the manifest.
type kept struct {
	Fit     fit
	Newest  uint64
	Files   int
	Offices []schema.Office
	Tables  map[schema.TableName]tableClock
	Memory  *keptRun // the rows that were in memory
	Runs    []keptRun
}

// keptRun is a run without what its records tell.
type keptRun struct {
	File string
	Rows int
	Bits int
	Sum  uint32 // of the sums of its buckets
}

// keep ends the index and leaves it in its folder for takeOver. Nothing is synced: what a failure of the machine spoils is
// noticed, and thrown away. After an error the index is still to be closed.
func (x *Index) keep(f fit) error {
	x.writing.Lock()
	defer x.writing.Unlock()
	if x.dead != nil {
		return x.dead
	}
	k := kept{Fit: f, Newest: x.newest, Offices: x.offices, Tables: x.tables}
	for _, r := range x.runs {
		k.Runs = append(k.Runs, r.kept())
	}
	if sorted := x.rows.sortedAfter(x.released.Load()); len(sorted) > 0 {
		r, err := x.write(sorted)
		if err != nil {
			return err
		}
		k.Memory = new(r.kept())
		if err := r.file.Close(); err != nil {
			return fmt.Errorf("write row clocks: %w", err)
		}
	}
	k.Files = x.files
	if err := k.write(x.dir); err != nil {
		return fmt.Errorf("keep the row clocks: %w", err)
	}
	return closeRuns(x.end())
}

func (r *run) kept() keptRun {
	return keptRun{File: filepath.Base(r.file.Name()), Rows: r.rows, Bits: r.bits, Sum: r.sum()}
}

func (r *run) sum() uint32 {
	all := make([]byte, 0, 4*len(r.sums))
	for _, s := range r.sums {
		all = binary.LittleEndian.AppendUint32(all, s)
	}
	return crc32.Checksum(all, castagnoli)
}

func (k *kept) write(dir string) error {
	var body bytes.Buffer
	if err := gob.NewEncoder(&body).Encode(k); err != nil {
		return err
	}
	b := binary.LittleEndian.AppendUint32([]byte(keptFormat), crc32.Checksum(body.Bytes(), castagnoli))
	return os.WriteFile(filepath.Join(dir, manifest), append(b, body.Bytes()...), 0o600)
}

func readKept(dir string) (kept, error) {
	var k kept
	b, err := os.ReadFile(filepath.Join(dir, manifest))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return k, errNone
	case err != nil:
		return k, err
	}
	b, ours := bytes.CutPrefix(b, []byte(keptFormat))
	switch {
	case !ours || len(b) < 4:
		return k, errOthers
	case crc32.Checksum(b[4:], castagnoli) != binary.LittleEndian.Uint32(b):
		return k, errDamaged
	}
	return k, gob.NewDecoder(bytes.NewReader(b[4:])).Decode(&k)
}

// takeOver is the index that a former life kept. It reads all of it, and trusts nothing that reads otherwise than it was
// written. What is released it is to be told. From then on the folder has no manifest, whatever becomes of this life: the
// next may not take over what this one has changed. An error says why there is no such index; errNone: there was no orderly
// end.
func takeOver(dir string, o Options, f fit) (*Index, error) {
	k, err := readKept(dir)
	if err != nil {
		return nil, err
	}
	if k.Fit != f {
		return nil, errOthers
	}
	x := empty(dir, o)
	if err = x.load(&k); err == nil {
		err = consume(dir, &k)
	}
	if err != nil {
		return nil, errors.Join(err, closeRuns(x.runs))
	}
	return x, nil
}

func (x *Index) load(k *kept) error {
	x.files, x.newest, x.taken, x.closed = k.Files, k.Newest, k.Fit.Last, k.Fit.Last
	x.offices = k.Offices
	for n, office := range x.offices {
		x.numbers[office] = uint16(n)
	}
	if k.Tables != nil {
		x.tables = k.Tables
	}
	if k.Memory != nil {
		rows := newRows(k.Memory.Rows)
		r, err := k.Memory.open(x.dir, func(row schema.RowID, e entry) { rows.claim(row).entry = e })
		if err != nil {
			return err
		}
		if err := r.file.Close(); err != nil {
			return err
		}
		x.rows = rows
	}
	for i := range k.Runs {
		r, err := k.Runs[i].open(x.dir, func(schema.RowID, entry) {})
		if err != nil {
			return err
		}
		x.runs = append(x.runs, r)
	}
	return nil
}

// open reads a run, and shows its records.
func (k *keptRun) open(dir string, show func(schema.RowID, entry)) (*run, error) {
	file, err := os.Open(filepath.Join(dir, k.File))
	if err != nil {
		return nil, err
	}
	r, err := k.read(file, show)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read row clocks of %s: %w", file.Name(), err), file.Close())
	}
	return r, nil
}

func (k *keptRun) read(file *os.File, show func(schema.RowID, entry)) (*run, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() != int64(k.Rows)*recordBytes || k.Bits < 0 || k.Bits > bucketBits {
		return nil, errDamaged
	}
	w := runWriter{run: emptyRun(file, k.Rows, k.Bits)}
	in := bufio.NewReaderSize(file, bufferBytes)
	for range k.Rows {
		if _, err := io.ReadFull(in, w.record[:]); err != nil {
			return nil, err
		}
		row, e := decode(w.record[:])
		if e.last == 0 || bucketOf(row, k.Bits) < w.bucket {
			return nil, errDamaged
		}
		w.note(row, e.last)
		show(row, e)
	}
	w.endBuckets(len(w.sums))
	if w.sum() != k.Sum {
		return nil, errDamaged
	}
	return &w.run, nil
}

// consume makes the folder as it is while an index is in use. The manifest goes first, and for good.
func consume(dir string, k *kept) error {
	if err := os.Remove(filepath.Join(dir, manifest)); err != nil {
		return err
	}
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	if err := errors.Join(folder.Sync(), folder.Close()); err != nil {
		return err
	}
	var runs []string
	for i := range k.Runs {
		runs = append(runs, k.Runs[i].File)
	}
	return sweep(dir, runs)
}

func closeRuns(runs []*run) error {
	var failed error
	for _, r := range runs {
		failed = errors.Join(failed, r.file.Close())
	}
	return failed
}
