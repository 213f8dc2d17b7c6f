package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"go.uber.org/zap"
	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"

	"github.com/pgvalet/pgvalet/config"
)

// logFile is a file that can be opened anew, under the same name, which is how
// log rotation works, or another one.
type logFile struct {
	mu sync.Mutex // guards f
	f  *os.File   // nil: what is written is lost
}

// open replaces the file by the one at path, "" for none. With an error nothing
// changes.
func (l *logFile) open(path string) (err error) {
	var f *os.File
	if path != "" {
		if f, err = os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644); err != nil {
			return fmt.Errorf("logfile: %w", err)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.f.Close() // which a nil file takes
	l.f = f
	return nil
}

// Close closes the file.
func (l *logFile) Close() error { return l.open("") }

// Write implements zapcore.WriteSyncer.
func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return len(p), nil
	}
	return l.f.Write(p)
}

// Sync implements zapcore.WriteSyncer.
func (l *logFile) Sync() error { return nil }

// newLog returns a logger that writes to the file and, unless quiet, to the
// terminal.
func newLog(c *config.Config, file *logFile, level zap.AtomicLevel, quiet bool, stderr io.Writer) *zap.Logger {
	out := []zapcore.WriteSyncer{file}
	if !quiet {
		out = append(out, zapcore.Lock(zapcore.AddSync(stderr)))
	}
	e := zapcore.EncoderConfig{
		TimeKey: "time", LevelKey: "level", NameKey: "peer", MessageKey: "msg",
		EncodeTime:       zapcore.RFC3339NanoTimeEncoder,
		EncodeLevel:      zapcore.LowercaseLevelEncoder,
		EncodeDuration:   zapcore.StringDurationEncoder,
		ConsoleSeparator: " ",
	}
	enc := zapcore.NewJSONEncoder(e)
	if c.LogFormat == config.LogConsole {
		e.EncodeTime = bouncerTime
		e.EncodeLevel = bouncerLevel
		enc = oneLine{zapcore.NewConsoleEncoder(e)}
	}
	return zap.New(zapcore.NewCore(enc, zapcore.NewMultiWriteSyncer(out...), level))
}

// oneLine keeps an entry on one line. The console encoder copies messages as
// they are, and some quote names and errors that somebody else has written: a
// line break in one must not begin a line of the log.
type oneLine struct{ zapcore.Encoder }

// Clone implements zapcore.Encoder.
func (e oneLine) Clone() zapcore.Encoder { return oneLine{e.Encoder.Clone()} }

// EncodeEntry implements zapcore.Encoder.
func (e oneLine) EncodeEntry(entry zapcore.Entry, fields []zapcore.Field) (*buffer.Buffer, error) {
	entry.Message, entry.LoggerName = escapeControl(entry.Message), escapeControl(entry.LoggerName)
	return e.Encoder.EncodeEntry(entry, fields)
}

// escapeControl writes control characters as Go does in a string.
func escapeControl(s string) string {
	if !strings.ContainsFunc(s, unicode.IsControl) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unicode.IsControl(r) {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// bouncerTime writes a time as PgBouncer does.
func bouncerTime(t time.Time, enc zapcore.PrimitiveArrayEncoder) {
	enc.AppendString(t.UTC().Format("2006-01-02 15:04:05.000 MST"))
}

// bouncerLevel uses PgBouncer's words, behind the process number.
func bouncerLevel(l zapcore.Level, enc zapcore.PrimitiveArrayEncoder) {
	word := "FATAL"
	switch l {
	case zapcore.DebugLevel:
		word = "DEBUG"
	case zapcore.InfoLevel:
		word = "LOG"
	case zapcore.WarnLevel:
		word = "WARNING"
	case zapcore.ErrorLevel:
		word = "ERROR"
	}
	enc.AppendString("[" + strconv.Itoa(os.Getpid()) + "] " + word)
}

func logLevel(verbose int) zapcore.Level {
	if verbose > 0 {
		return zapcore.DebugLevel
	}
	return zapcore.InfoLevel
}
