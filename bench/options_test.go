package main

import (
	"errors"
	"flag"
	"io"
	"slices"
	"strings"
	"testing"
)

func TestParseOptions(t *testing.T) {
	t.Setenv("PGBOUNCER", "")
	t.Setenv("PATH", "")
	o, err := parseOptions([]string{"-suites", "storm,idle", "-clients", "8,64", "-variants", "tls", "-seconds", "3", "-other", "older"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(o.suites, []string{"storm", "idle"}) || !slices.Equal(o.clients, []int{8, 64}) ||
		!slices.Equal(o.variants, []string{"tls"}) || o.seconds != 3 || o.rounds != 5 || o.pgbouncer != "" || o.other != "older" {
		t.Errorf("%+v", o)
	}
	o, err = parseOptions([]string{"-render", "a.json", "b.json"}, io.Discard)
	if err != nil || !slices.Equal(o.render, []string{"a.json", "b.json"}) {
		t.Errorf("%+v, %v", o, err)
	}
}

func TestParseOptionsRefuses(t *testing.T) {
	t.Setenv("PGBOUNCER", "")
	for _, args := range []string{
		"-suites none", "-clients 0", "-clients 8,x", "-variants ssl", "-modes x", "-rounds 0", "-seconds 0", "x", "-render", "-pgbouncer ./nothing",
		"-suites idle -idle-clients 16",
	} {
		if o, err := parseOptions(strings.Fields(args), io.Discard); err == nil {
			t.Errorf("%s: %+v", args, o)
		}
	}
}

func TestHelpNamesEverySuite(t *testing.T) {
	var help strings.Builder
	if _, err := parseOptions([]string{"-help"}, &help); !errors.Is(err, flag.ErrHelp) {
		t.Error(err)
	}
	for _, s := range suites() {
		if !strings.Contains(help.String(), "\n  "+s.name+" ") {
			t.Errorf("%s is not explained", s.name)
		}
	}
}
