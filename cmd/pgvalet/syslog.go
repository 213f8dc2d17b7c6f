package main

import (
	"bytes"
	"log/syslog"
	"sync"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/pgvalet/pgvalet/config"
)

// syslogPause is how long a system log that could not be reached is left alone.
const syslogPause = 5 * time.Second

// syslogSink writes lines to the system's log, if it is told to. A line that
// cannot be written is lost, as with syslog(3).
type syslogSink struct {
	network, address string // where it is; "": where the system has it. Static.

	mu       sync.Mutex // guards the fields below
	on       bool
	ident    string
	facility syslog.Priority
	w        *syslog.Writer // nil: not connected
	failed   time.Time      // when connecting failed last
}

// configure puts the syslog settings into force.
func (s *syslogSink) configure(c *config.Settings) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.w != nil {
		s.w.Close()
	}
	s.w, s.failed = nil, time.Time{}
	s.on, s.ident, s.facility = c.Syslog, c.SyslogIdent, facilities[c.SyslogFacility]
}

// write writes one line. DEBUG and NOISE are not for the system's log, as in
// PgBouncer.
func (s *syslogSink) write(l zapcore.Level, line []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.on || l < zapcore.InfoLevel || !s.connect() {
		return nil
	}
	text := string(bytes.TrimSuffix(line, []byte("\n")))
	switch severity(l) {
	case 6:
		return s.w.Info(text)
	case 4:
		return s.w.Warning(text)
	case 3:
		return s.w.Err(text)
	}
	return s.w.Crit(text)
}

func (s *syslogSink) connect() bool {
	if s.w != nil {
		return true
	}
	if time.Since(s.failed) < syslogPause {
		return false
	}
	w, err := syslog.Dial(s.network, s.address, s.facility|syslog.LOG_INFO, s.ident)
	if err != nil {
		s.failed = time.Now()
		return false
	}
	s.w = w
	return true
}

// facilities are the values of syslog_facility.
var facilities = map[string]syslog.Priority{
	"auth":     syslog.LOG_AUTH,
	"authpriv": syslog.LOG_AUTHPRIV,
	"daemon":   syslog.LOG_DAEMON,
	"user":     syslog.LOG_USER,
	"local0":   syslog.LOG_LOCAL0,
	"local1":   syslog.LOG_LOCAL1,
	"local2":   syslog.LOG_LOCAL2,
	"local3":   syslog.LOG_LOCAL3,
	"local4":   syslog.LOG_LOCAL4,
	"local5":   syslog.LOG_LOCAL5,
	"local6":   syslog.LOG_LOCAL6,
	"local7":   syslog.LOG_LOCAL7,
}
