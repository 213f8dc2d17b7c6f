package main

import (
	"math"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{3}, 3},
		{[]float64{3, 1}, 2},
		{[]float64{9, 1, 2}, 2},
		{[]float64{4, 1, 3, 2}, 2.5},
	} {
		if got := median(tt.values); got != tt.want {
			t.Errorf("median of %v: %v, want %v", tt.values, got, tt.want)
		}
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("median of nothing: %v", got)
	}
}

func TestMedianKeepsTheOrder(t *testing.T) {
	values := []float64{3, 1, 2}
	median(values)
	if values[0] != 3 || values[1] != 1 {
		t.Errorf("sorted in place: %v", values)
	}
}

func TestPercentile(t *testing.T) {
	thousand := make([]float64, 1000)
	for i := range thousand {
		thousand[i] = float64(i + 1)
	}
	for _, tt := range []struct {
		sorted []float64
		p      float64
		want   float64
	}{
		{thousand, 0.5, 500},
		{thousand, 0.99, 990},
		{thousand, 0.999, 999},
		{thousand, 1, 1000},
		{thousand, 0, 1},
		{[]float64{7}, 0.999, 7},
		{[]float64{1, 2, 3}, 0.5, 2},
	} {
		if got := percentile(tt.sorted, tt.p); got != tt.want {
			t.Errorf("percentile %v of %d: %v, want %v", tt.p, len(tt.sorted), got, tt.want)
		}
	}
	if got := percentile(nil, 0.5); !math.IsNaN(got) {
		t.Errorf("percentile of nothing: %v", got)
	}
}

// samplesOf makes one sample for each target and round.
func samplesOf(key string, values map[string][]float64) []Sample {
	var samples []Sample
	for target, list := range values {
		for i, value := range list {
			samples = append(samples, Sample{Round: i + 1, Target: target, Figures: figures{key: value}})
		}
	}
	return samples
}

// The two ratios differ where rounds differ: each pair is of one round.
func TestCompare(t *testing.T) {
	samples := samplesOf("tps", map[string][]float64{
		"a": {10, 40, 30},
		"b": {10, 10, 20},
	})
	got := compare(samples, "tps", "a", "b")
	if got.ofMedians != 3 || got.ofPairs != 1.5 {
		t.Errorf("%+v, want 30/10 and the median of 1, 4 and 1.5", got)
	}
	if got := compare(samples, "tps", "a", "c"); !math.IsNaN(got.ofMedians) || !math.IsNaN(got.ofPairs) {
		t.Errorf("against nobody: %+v", got)
	}
}

func TestCompareLeavesOutRoundsWithoutAPair(t *testing.T) {
	samples := samplesOf("tps", map[string][]float64{"a": {10, 20}, "b": {5}})
	if got := compare(samples, "tps", "a", "b"); got.ofPairs != 2 {
		t.Errorf("%+v, want pairs 2", got)
	}
}

func TestSummarize(t *testing.T) {
	if got, want := summarize([]float64{5, 1, 3}), (summary{3, 1, 5}); got != want {
		t.Errorf("%v, want %v", got, want)
	}
}
