package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// logLine is one transaction in pgbench's log.
type logLine struct {
	client int
	end    int64 // µs since 1970
	took   int64 // µs, from when it was due if there is a rate
}

// readLog reads the files that pgbench's threads have logged to.
func readLog(dir string) ([]logLine, error) {
	files, err := filepath.Glob(filepath.Join(dir, "log.*"))
	if err != nil {
		return nil, err
	}
	var lines []logLine
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if lines, err = parseLog(lines, text); err != nil {
			return nil, fmt.Errorf("pgbench's log: %w", err)
		}
	}
	if len(lines) == 0 {
		return nil, errors.New("pgbench's log is empty")
	}
	return lines, nil
}

// parseLog appends the lines of a log: client, number, µs, script, seconds
// and µs of its end, and more with a rate. There may be millions.
func parseLog(lines []logLine, text []byte) ([]logLine, error) {
	for line := range bytes.Lines(text) {
		var fields [6]int64
		rest := line
		for i := range fields {
			n, tail, ok := leadingNumber(rest)
			if !ok {
				return nil, fmt.Errorf("line %q", bytes.TrimSpace(line))
			}
			fields[i], rest = n, tail
		}
		lines = append(lines, logLine{client: int(fields[0]), took: fields[2], end: fields[4]*1e6 + fields[5]})
	}
	return lines, nil
}

// leadingNumber reads a decimal number and the space or line end behind it.
func leadingNumber(text []byte) (n int64, rest []byte, ok bool) {
	i := 0
	for ; i < len(text) && text[i] >= '0' && text[i] <= '9'; i++ {
		n = 10*n + int64(text[i]-'0')
	}
	if i == 0 || i > 18 || i < len(text) && text[i] != ' ' && text[i] != '\n' {
		return 0, nil, false
	}
	return n, text[min(i+1, len(text)):], true
}

// latencies returns the sorted durations, in ms, of the transactions that
// ended from one time to another, in µs since 1970.
func latencies(lines []logLine, from, to int64) []float64 {
	var values []float64
	for _, l := range lines {
		if l.end >= from && l.end < to {
			values = append(values, float64(l.took)/1000)
		}
	}
	slices.Sort(values)
	return values
}

// span returns the first and the last end in a log.
func span(lines []logLine) (first, last int64) {
	first, last = lines[0].end, lines[0].end
	for _, l := range lines {
		first, last = min(first, l.end), max(last, l.end)
	}
	return first, last
}
