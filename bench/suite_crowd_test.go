package main

import (
	"maps"
	"strings"
	"testing"
	"time"
)

func TestCrowdFigures(t *testing.T) {
	for _, test := range []struct {
		served []float64
		want   figures
	}{
		{[]float64{3, 0, 1, 2, 0}, figures{
			"failed": 2, "peak_mib": 2, "login_s": 3, "login_p50_s": 2, "login_p99_s": 3, "cpu_us_per_login": 500,
		}},
		{[]float64{0, 0}, figures{"failed": 2, "peak_mib": 2}},
	} {
		if got := crowdFigures(test.served, 1500*time.Microsecond, 2<<20); !maps.Equal(got, test.want) {
			t.Errorf("%v: %v, want %v", test.served, got, test.want)
		}
	}
}

func TestEachCrowdSkips(t *testing.T) {
	b := &bench{options: &options{variants: []string{plainVariant, tlsVariant}, idle: []int{20, maxClientConn}}}
	var result SuiteResult
	var ran []string
	if err := b.eachCrowd(&result, func(variant string, count int) error {
		if count != 20 {
			t.Errorf("%d clients", count)
		}
		ran = append(ran, variant)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(ran) != 2 || len(result.Notes) != 2 || !strings.HasPrefix(result.Notes[1], "tls, 12,000 clients: skipped") {
		t.Errorf("ran %q with the notes %q", ran, result.Notes)
	}
}
