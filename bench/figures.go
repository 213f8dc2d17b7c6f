package main

import (
	"math"
	"slices"
)

// figures are what one run of one target gave, by key.
type figures map[string]float64

// figure says how a figure is shown.
type figure struct {
	key    string
	title  string // with its unit
	digits int    // after the point
	cost   bool   // less is better
	plot   bool   // has bars in the plot
}

// median returns the middle of values, or the mean of the two in the middle;
// NaN if there are none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// percentile returns the value in sorted that a share p of the values, from 0
// to 1, does not exceed (nearest rank); NaN if there are none.
func percentile(sorted []float64, p float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	// The rounding of p·n must not lift an exact rank to the next.
	rank := int(math.Ceil(p*float64(len(sorted)) - 1e-9))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// summary is one figure of one target over all rounds.
type summary struct {
	median, least, most float64
}

func summarize(values []float64) summary {
	if len(values) == 0 {
		return summary{math.NaN(), math.NaN(), math.NaN()}
	}
	return summary{median(values), slices.Min(values), slices.Max(values)}
}

// ratio compares one target with another. Of medians is the main figure; that
// of pairs is the median of what each round says for itself.
type ratio struct {
	ofMedians, ofPairs float64
}

// compare returns the ratio of a figure of target to that of base.
func compare(samples []Sample, key, target, base string) ratio {
	ours, theirs := byRound(samples, key, target), byRound(samples, key, base)
	var pairs []float64
	for round, value := range ours {
		if other, ok := theirs[round]; ok {
			pairs = append(pairs, value/other)
		}
	}
	return ratio{median(valuesOf(samples, key, target)) / median(valuesOf(samples, key, base)), median(pairs)}
}

// valuesOf returns a figure of a target in every round that has it.
func valuesOf(samples []Sample, key, target string) []float64 {
	var values []float64
	for _, s := range samples {
		if value, ok := s.Figures[key]; ok && s.Target == target {
			values = append(values, value)
		}
	}
	return values
}

func byRound(samples []Sample, key, target string) map[int]float64 {
	values := make(map[int]float64)
	for _, s := range samples {
		if value, ok := s.Figures[key]; ok && s.Target == target {
			values[s.Round] = value
		}
	}
	return values
}
