package wire

import (
	"fmt"
	"testing"
)

// dataRows fills a buffer with DataRows of one column, each of n bytes in all.
func dataRows(n int) []byte {
	row := make([]byte, n)
	row[0] = DataRow
	PutLen(row, n)
	buf := make([]byte, 0, 64<<10)
	for len(buf)+n <= cap(buf) {
		buf = append(buf, row...)
	}
	return buf
}

// BenchmarkHeader walks the messages of a full buffer.
func BenchmarkHeader(b *testing.B) {
	for _, n := range []int{10, 170, 2900} {
		buf := dataRows(n)
		b.Run(fmt.Sprintf("%dB", n), func(b *testing.B) {
			b.SetBytes(int64(len(buf)))
			b.ReportAllocs()
			for b.Loop() {
				for rest := buf; len(rest) > 0; {
					_, n, ok := Header(rest)
					if !ok {
						b.Fatal("half a header")
					}
					rest = rest[n:]
				}
			}
		})
	}
}
