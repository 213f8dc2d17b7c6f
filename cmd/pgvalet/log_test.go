package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/pgvalet/pgvalet/config"
)

// What a server or a client has written cannot pass for a line of the log.
func TestLogLinesCannotBeForged(t *testing.T) {
	for _, format := range []config.LogFormat{config.LogConsole, config.LogJSON} {
		t.Run(format.String(), func(t *testing.T) {
			var b bytes.Buffer
			c := &config.Config{Settings: config.Settings{LogFormat: format}}
			log, _ := newLog(c, new(logFile), new(syslogSink), zap.NewAtomicLevel(), false, &b)
			const evil = "a\r\n2026-01-01 00:00:00.000 UTC [1] LOG C-1: db/é\x1b[2J"
			log.Named(evil).With(zap.String("user", evil)).Warn(evil, zap.Error(errors.New(evil)))
			got := b.String()
			if strings.Count(got, "\n") != 1 || strings.ContainsAny(got, "\r\x1b") {
				t.Errorf("logged %q", got)
			}
			if !strings.Contains(got, "é") {
				t.Errorf("lost a letter: %q", got)
			}
		})
	}
}

// logAll writes a line of each level.
func logAll(log *zap.Logger) {
	for _, l := range []zapcore.Level{noiseLevel, zap.DebugLevel, zap.InfoLevel, zap.WarnLevel, zap.ErrorLevel, zap.DPanicLevel} {
		log.Named("C-1: db/me").Log(l, "hello")
	}
}

func TestLogLines(t *testing.T) {
	var b bytes.Buffer
	log, _ := newLog(new(config.Config), new(logFile), new(syslogSink), zap.NewAtomicLevelAt(logLevel(2)), false, &b)
	logAll(log)
	want := ""
	for _, w := range []string{"NOISE", "DEBUG", "LOG", "WARNING", "ERROR", "FATAL"} {
		want += fmt.Sprintf(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} UTC \[%d\] %s C-1: db/me hello\n`, os.Getpid(), w)
	}
	if !regexp.MustCompile("^" + want + "$").Match(b.Bytes()) {
		t.Errorf("got:\n%swant:\n%s", b.String(), want)
	}
}

// The journal keeps the time, and reads the level off the line.
func TestJournal(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "journal"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var st syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	t.Setenv("JOURNAL_STREAM", fmt.Sprintf("%d:%d", st.Dev, st.Ino))
	log, _ := newLog(new(config.Config), new(logFile), new(syslogSink), zap.NewAtomicLevelAt(logLevel(2)), false, f)
	logAll(log)
	got, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	want := ""
	for _, n := range []int{7, 7, 6, 4, 3, 2} {
		want += fmt.Sprintf("<%d>C-1: db/me hello\n", n)
	}
	if string(got) != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

func TestSyslog(t *testing.T) {
	dir, err := os.MkdirTemp("", "pgvalet")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	sink := &syslogSink{network: "unixgram", address: filepath.Join(dir, "log")}
	var terminal bytes.Buffer
	log, filed := newLog(new(config.Config), new(logFile), sink, zap.NewAtomicLevelAt(logLevel(2)), false, &terminal)
	s := &config.Settings{Syslog: true, SyslogIdent: "bouncer", SyslogFacility: "local3"}
	sink.configure(s)
	log.Info("nobody listens: lost, and no error")

	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: sink.address, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	sink.configure(s) // a RELOAD tries again at once
	terminal.Reset()
	logAll(filed)
	if terminal.Len() > 0 {
		t.Errorf("on the terminal: %q", terminal.String())
	}
	const local3 = 19 << 3
	for _, severity := range []int{6, 4, 3, 2} {
		b := make([]byte, 200)
		n, err := conn.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf(`^<%d>.* bouncer\[%d\]: C-1: db/me hello\n$`, local3+severity, os.Getpid())
		if !regexp.MustCompile(want).Match(b[:n]) {
			t.Errorf("got %q, want %s", b[:n], want)
		}
	}
	s.Syslog = false
	sink.configure(s)
	log.Info("off")
	conn.SetReadDeadline(time.Unix(1, 0))
	if n, err := conn.Read(make([]byte, 200)); err == nil {
		t.Errorf("got %d bytes more", n)
	}
}
