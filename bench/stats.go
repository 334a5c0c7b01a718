package main

import "slices"

// samples are measurements of one thing, one a round.
type samples []float64

// median is the middle one, or the mean of the two in the middle; 0 of none.
func (s samples) median() float64 {
	sorted := slices.Sorted(slices.Values(s))
	n := len(sorted)
	if n == 0 {
		return 0
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// percentile is the smallest sample that at least p percent of all do not exceed; 0 of none.
func (s samples) percentile(p float64) float64 {
	sorted := slices.Sorted(slices.Values(s))
	if len(sorted) == 0 {
		return 0
	}
	i := int(p/100*float64(len(sorted))+1-1e-9) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}

// over divides round by round.
func (s samples) over(other samples) samples {
	var ratios samples
	for i := range min(len(s), len(other)) {
		ratios = append(ratios, s[i]/other[i])
	}
	return ratios
}
