package main

import (
	"fmt"
	"io"
	"os"
	"runtime/debug"
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
	// A crash of the Go runtime is reported there too: a daemon has nobody who
	// reads its standard error. A nil file means nowhere.
	_ = debug.SetCrashOutput(f, debug.CrashOptions{})
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

// newLog returns a logger that writes to the file and to syslog and, unless
// quiet, to the terminal as well; and one that does not write to the terminal.
func newLog(c *config.Config, file *logFile, syslog *syslogSink, level zap.AtomicLevel, quiet bool, stderr io.Writer) (log, filed *zap.Logger) {
	e := zapcore.EncoderConfig{
		TimeKey: "time", LevelKey: "level", NameKey: "peer", MessageKey: "msg",
		EncodeTime:       zapcore.RFC3339NanoTimeEncoder,
		EncodeLevel:      jsonLevel,
		EncodeDuration:   zapcore.StringDurationEncoder,
		ConsoleSeparator: " ",
	}
	if c.LogFormat == config.LogConsole {
		e.EncodeTime, e.EncodeLevel = bouncerTime, bouncerLevel
	}
	bare := e // for those who keep time and level themselves
	bare.TimeKey, bare.LevelKey = "", ""
	encoder := func(e zapcore.EncoderConfig) zapcore.Encoder {
		if c.LogFormat == config.LogConsole {
			return oneLine{zapcore.NewConsoleEncoder(e)}
		}
		return zapcore.NewJSONEncoder(e)
	}

	core := zapcore.NewTee(zapcore.NewCore(encoder(e), file, level), &leveledCore{level, encoder(bare), syslog.write})
	filed = zap.New(core)
	if quiet {
		return filed, filed
	}
	terminal := zapcore.NewCore(encoder(e), zapcore.Lock(zapcore.AddSync(stderr)), level)
	if f, ok := stderr.(*os.File); ok && isJournal(f) {
		terminal = &leveledCore{level, encoder(bare), func(l zapcore.Level, line []byte) error {
			_, err := f.Write(append(fmt.Appendf(nil, "<%d>", severity(l)), line...)) // sd-daemon(3)
			return err
		}}
	}
	return zap.New(zapcore.NewTee(core, terminal)), filed
}

// leveledCore gives each line and its level to write.
type leveledCore struct {
	zapcore.LevelEnabler
	encoder zapcore.Encoder
	write   func(zapcore.Level, []byte) error
}

// With implements zapcore.Core.
func (c *leveledCore) With(fields []zapcore.Field) zapcore.Core {
	e := c.encoder.Clone()
	for _, f := range fields {
		f.AddTo(e)
	}
	return &leveledCore{c.LevelEnabler, e, c.write}
}

// Check implements zapcore.Core.
func (c *leveledCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

// Write implements zapcore.Core.
func (c *leveledCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	line, err := c.encoder.EncodeEntry(e, fields)
	if err != nil {
		return err
	}
	defer line.Free()
	return c.write(e.Level, line.Bytes())
}

// Sync implements zapcore.Core.
func (c *leveledCore) Sync() error { return nil }

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

// noiseLevel is PgBouncer's NOISE: what verbose = 2 adds to DEBUG.
const noiseLevel = zapcore.DebugLevel - 1

// word is PgBouncer's for a level.
func word(l zapcore.Level) string {
	switch {
	case l <= noiseLevel:
		return "NOISE"
	case l == zapcore.DebugLevel:
		return "DEBUG"
	case l == zapcore.InfoLevel:
		return "LOG"
	case l == zapcore.WarnLevel:
		return "WARNING"
	case l == zapcore.ErrorLevel:
		return "ERROR"
	}
	return "FATAL"
}

// severity is that of syslog(3).
func severity(l zapcore.Level) int {
	switch {
	case l <= zapcore.DebugLevel:
		return 7
	case l == zapcore.InfoLevel:
		return 6
	case l == zapcore.WarnLevel:
		return 4
	case l == zapcore.ErrorLevel:
		return 3
	}
	return 2
}

// bouncerLevel puts the level behind the process number.
func bouncerLevel(l zapcore.Level, enc zapcore.PrimitiveArrayEncoder) {
	enc.AppendString("[" + strconv.Itoa(os.Getpid()) + "] " + word(l))
}

// jsonLevel is zap's names, and ours for what zap has none for.
func jsonLevel(l zapcore.Level, enc zapcore.PrimitiveArrayEncoder) {
	switch {
	case l <= noiseLevel:
		enc.AppendString("noise")
	case l > zapcore.ErrorLevel:
		enc.AppendString("fatal")
	default:
		zapcore.LowercaseLevelEncoder(l, enc)
	}
}

func logLevel(verbose int) zapcore.Level {
	switch {
	case verbose > 1:
		return noiseLevel
	case verbose > 0:
		return zapcore.DebugLevel
	}
	return zapcore.InfoLevel
}
