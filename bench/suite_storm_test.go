package main

import (
	"math"
	"testing"
	"time"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

func TestStormFigures(t *testing.T) {
	start := time.UnixMicro(1_000_000)
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	begin := moment{at: at(0), pooler: time.Second}
	middle := moment{at: at(2), pooler: time.Second + 20*time.Millisecond, generator: time.Second}
	end := moment{at: at(6), pooler: time.Second + 140*time.Millisecond, generator: time.Second + 40*time.Millisecond}
	var log []logLine
	for i := range 1000 { // in the calm: 1 ms
		log = append(log, logLine{end: at(0).UnixMicro() + int64(i), took: 1000})
	}
	for i := range 2000 { // in the storm: 5 ms
		log = append(log, logLine{end: at(3).UnixMicro() + int64(i), took: 5000})
	}
	log = append(log, logLine{end: at(7).UnixMicro(), took: 9000}) // after it
	logins := make([]float64, 100)
	for i := range logins {
		logins[i] = float64(i + 1)
	}
	pooler := &target{proc: new(backendtest.Process)}
	got := storm{target: pooler, at: pooler}.figures(log, begin, middle, end, logins)
	for key, want := range map[string]float64{
		"logins_per_s":           25,
		"login_p99_ms":           99,
		"steady_tps_before":      500,
		"steady_p99_ms_before":   1,
		"steady_tps_during":      500,
		"steady_p50_ms_during":   5,
		"steady_p99_ratio":       5,
		"cpu_us_per_tx_before":   20,
		"cpu_us_per_login":       800, // 120 ms less 2,000 times 20 µs
		"generator_us_per_login": 400,
	} {
		if math.Abs(got[key]-want) > 1e-6 {
			t.Errorf("%s: %v, want %v", key, got[key], want)
		}
	}
	direct := &target{}
	for _, s := range []storm{{target: direct, at: direct}, {target: pooler, at: direct}} {
		if got := s.figures(log, begin, middle, end, logins); got["cpu_us_per_login"] != 0 {
			t.Errorf("%+v: the pooler's CPU time for logins that it did not have", s)
		}
	}
}
