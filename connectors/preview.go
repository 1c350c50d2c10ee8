package connectors

import (
	"context"
	"errors"
	"io"
	"time"
)

// Sampler is implemented by a Source whose system can be looked into without
// changing anything there: no slot, no acknowledgement, no group, no lock that
// others wait for. `connector dry-run --live` asks it.
type Sampler interface {
	Source
	// Sample reads at most so many messages, as a first run would read them,
	// and what the system says about their types. Messages have Err where
	// Read's would.
	Sample(ctx context.Context, task TaskContext, most int) (Sample, error)
}

// Sample is what a look into a system gave.
type Sample struct {
	Messages []Message
	Fields   []FieldType // what the system says of the fields; none where it says nothing
	Makes    []string    // what a first start would make there, such as a publication
	Notes    []string    // what was not looked at, and why
	Allowed  []string    // losses that the config allows by name, such as numeric_to_double
}

// FieldType is what a source's system calls the type of a field.
type FieldType struct {
	Field    string // name in the record
	Type     string // as the system prints it: numeric(12,2)
	Is       Logical
	Nullable bool
}

// Previewer is implemented by a Sink that can tell what it would do with
// records, without doing it: it connects and reads, and writes nothing.
type Previewer interface {
	Sink
	// Preview says what is there and what a run that begins with these records
	// would make and write. Without records it says what the config alone
	// tells.
	Preview(ctx context.Context, task TaskContext, sample []Message) (Preview, error)
}

// Preview is what a sink would do.
type Preview struct {
	Target  string   // where it writes, and whether that is there
	Makes   []string // statements that would run before the first record
	Columns []ColumnUse
	// Unfilled are columns of the destination that no field fills, Dropped are
	// fields of the sample that no column takes. Meant tells that the config
	// says so: it lists the columns, or what to do with other fields.
	Unfilled, Dropped []string
	Meant             bool
	Refused           []RecordError // records of the sample that would be dead letters
	Notes             []string
}

// ColumnUse is one column of the destination and what fills it.
type ColumnUse struct {
	Field    string // path in the record, dotted
	Column   string
	Type     string // as the destination prints it
	Is       Logical
	Required bool // it takes no NULL
}

// LogicalKind is what a type can hold, whatever its system calls it.
type LogicalKind string

// The kinds. What is none of them is LogicalOther, of which nothing is said.
const (
	LogicalOther   LogicalKind = ""
	LogicalText    LogicalKind = "text"
	LogicalBool    LogicalKind = "bool"
	LogicalInt     LogicalKind = "int"     // Bits, with sign
	LogicalUint    LogicalKind = "uint"    // Bits
	LogicalDecimal LogicalKind = "decimal" // Precision and Scale; Precision 0 has no bound
	LogicalFloat   LogicalKind = "float"   // Bits
	LogicalInstant LogicalKind = "instant" // a moment; Fraction digits of seconds
	LogicalLocal   LogicalKind = "local"   // date and time without a zone; Fraction digits of seconds
	LogicalTime    LogicalKind = "time"    // either of the two; Fraction digits of seconds
	LogicalDate    LogicalKind = "date"
	LogicalJSON    LogicalKind = "json"
	LogicalBytes   LogicalKind = "bytes"
)

// Logical is a type as far as two systems can be compared.
type Logical struct {
	Kind             LogicalKind
	Bits             int
	Precision, Scale int
	Length           int // most characters of a text; 0 has no bound
	Fraction         int // decimal digits of seconds
}

// sampleWait is how long ReadSample waits for the messages of a split.
const sampleWait = 500 * time.Millisecond

// ReadSample reads the first messages of each split. It is for sources whose
// readers change nothing as long as Committed is not called.
func ReadSample(ctx context.Context, s Source, task TaskContext, most int) (all []Message, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lists, err := s.Splits(ctx, task.Config)
	if err != nil {
		return nil, err
	}
	splits := <-lists
	defer func() {
		cancel()
		for range lists { // until its goroutine has ended
		}
	}()
	for i, split := range splits {
		if len(all) >= most {
			break
		}
		got, err := readSplit(ctx, s, task, split, max(1, (most-len(all))/(len(splits)-i)))
		all = append(all, got...)
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

func readSplit(ctx context.Context, s Source, task TaskContext, split Split, most int) (all []Message, err error) {
	r, err := s.Open(ctx, task, split, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close(ctx)) }()
	for len(all) < most {
		b, err := r.Read(ctx, Limits{Records: most - len(all), Wait: sampleWait})
		for _, m := range b.Messages {
			if !m.Mark {
				all = append(all, m)
			}
		}
		if errors.Is(err, io.EOF) || err == nil && len(b.Messages) == 0 {
			return all, nil
		}
		if err != nil {
			return all, err
		}
	}
	return all, nil
}
