package frontend

import (
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// columnType is the type of a column: its OID in pg_type.
type columnType uint32

const (
	columnBytea   columnType = 17
	columnInt8    columnType = 20
	columnInt4    columnType = 23
	columnText    columnType = 25
	columnNumeric columnType = 1700
)

// column is one column of a table of the console.
type column struct {
	name string
	typ  columnType
}

// columnLetters are how columnsOf writes types: those of PgBouncer's source.
var columnLetters = map[string]columnType{"": columnText, "i": columnInt4, "q": columnInt8, "n": columnNumeric, "b": columnBytea}

// columnsOf reads a list of columns: "name" is text, "name:i" has one of
// columnLetters.
func columnsOf(spec string) []column {
	var list []column
	for word := range strings.FieldsSeq(spec) {
		name, kind, _ := strings.Cut(word, ":")
		list = append(list, column{name, columnLetters[kind]})
	}
	return list
}

func (t columnType) String() string {
	return map[columnType]string{
		columnBytea: "bytea", columnInt8: "int8", columnInt4: "int4", columnText: "text", columnNumeric: "numeric",
	}[t]
}

// size is the type's typlen.
func (t columnType) size() int16 {
	switch t {
	case columnInt4:
		return 4
	case columnInt8:
		return 8
	}
	return -1
}

// rowDescription describes columns; formats may be nil for text.
func rowDescription(columns []column, formats []int16) *pgproto3.RowDescription {
	m := &pgproto3.RowDescription{}
	for i, c := range columns {
		f := pgproto3.FieldDescription{Name: []byte(c.name), DataTypeOID: uint32(c.typ), DataTypeSize: c.typ.size(), TypeModifier: -1}
		if formats != nil {
			f.Format = formats[i]
		}
		m.Fields = append(m.Fields, f)
	}
	return m
}

// dataRow encodes a row, whose values are strings, ints, uint64s and nils.
func dataRow(columns []column, formats []int16, row []any) *pgproto3.DataRow {
	m := &pgproto3.DataRow{Values: make([][]byte, len(row))}
	for i, v := range row {
		m.Values[i] = encodeValue(columns[i].typ, formats != nil && formats[i] == pgproto3.BinaryFormat, v)
	}
	return m
}

// encodeValue returns nil for NULL only.
func encodeValue(t columnType, inBinary bool, v any) []byte {
	var n uint64
	switch v := v.(type) {
	case nil:
		return nil
	case string:
		return append([]byte{}, v...)
	case int:
		n = uint64(max(v, 0)) // there is nothing negative on the console
	case uint64:
		n = v
	}
	if t == columnInt4 {
		n = min(n, math.MaxInt32)
	}
	switch {
	case !inBinary || t == columnText:
		return strconv.AppendUint([]byte{}, n, 10)
	case t == columnInt8:
		return binary.BigEndian.AppendUint64(nil, n)
	case t == columnInt4:
		return binary.BigEndian.AppendUint32(nil, uint32(n))
	}
	return appendNumeric(nil, n)
}

// appendNumeric appends the binary format of a numeric: the number of digits to
// base 10000, the weight of the first, sign, display scale, and the digits
// (numeric_send in PostgreSQL's numeric.c).
func appendNumeric(dst []byte, n uint64) []byte {
	var digits []uint16
	for ; n > 0; n /= 10000 {
		digits = append(digits, uint16(n%10000))
	}
	slices.Reverse(digits)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(digits)))
	dst = binary.BigEndian.AppendUint16(dst, uint16(max(len(digits)-1, 0)))
	dst = append(dst, 0, 0, 0, 0)
	for _, d := range digits {
		dst = binary.BigEndian.AppendUint16(dst, d)
	}
	return dst
}
