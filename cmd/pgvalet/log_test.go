package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/pgvalet/pgvalet/config"
)

// What a server or a client has written cannot pass for a line of the log.
func TestLogLinesCannotBeForged(t *testing.T) {
	for _, format := range []config.LogFormat{config.LogConsole, config.LogJSON} {
		t.Run(format.String(), func(t *testing.T) {
			var b bytes.Buffer
			c := &config.Config{Settings: config.Settings{LogFormat: format}}
			log := newLog(c, new(logFile), zap.NewAtomicLevel(), false, &b)
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
