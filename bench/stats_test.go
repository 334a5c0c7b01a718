package main

import "testing"

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		of   samples
		want float64
	}{{nil, 0}, {samples{3}, 3}, {samples{5, 1, 3}, 3}, {samples{4, 1, 3, 2}, 2.5}} {
		if got := c.of.median(); got != c.want {
			t.Errorf("median of %v: got %v, want %v", c.of, got, c.want)
		}
	}
}

func TestPercentile(t *testing.T) {
	var hundred samples
	for i := 100; i > 0; i-- {
		hundred = append(hundred, float64(i))
	}
	for _, c := range []struct {
		of   samples
		p    float64
		want float64
	}{
		{nil, 50, 0},
		{samples{7}, 99, 7},
		{hundred, 0, 1},
		{hundred, 50, 50},
		{hundred, 99, 99},
		{hundred, 99.5, 100},
		{hundred, 100, 100},
		{samples{1, 2}, 50, 1},
		{samples{1, 2}, 51, 2},
	} {
		if got := c.of.percentile(c.p); got != c.want {
			t.Errorf("percentile %v of %d samples: got %v, want %v", c.p, len(c.of), got, c.want)
		}
	}
}

// A ratio is that of the medians; its spread is that of the rounds.
func TestRatio(t *testing.T) {
	f := ratio("table", "row", "column", samples{10, 40, 30}, samples{20, 20, 60}, atLeast(1, 0))
	if f.value != 1.5 || f.low != 0.5 || f.high != 2 || !f.met() {
		t.Errorf("got %+v, want 1.5 (0.5–2), met", f)
	}
}

func TestMusts(t *testing.T) {
	for _, c := range []struct {
		value float64
		must  *must
		want  bool
	}{
		{1, nil, true},
		{0.5, atLeast(0.5, 0.8), true},
		{0.49, atLeast(0.5, 0.8), false},
		{20, atMost(20, 10), true},
		{20.1, atMost(20, 10), false},
	} {
		if got := single("table", "row", "column", c.value, c.must).met(); got != c.want {
			t.Errorf("%v against %v: got %v, want %v", c.value, c.must, got, c.want)
		}
	}
}

func TestNumber(t *testing.T) {
	for value, want := range map[float64]string{
		0: "0", 0.0333: "0.033", 0.5: "0.5", 1.2345: "1.23", 12.345: "12.3", 123.45: "123", 1234.5: "1,234", 1234567: "1,234,567", -12345: "-12,345",
	} {
		if got := number(value); got != want {
			t.Errorf("number(%v): got %s, want %s", value, got, want)
		}
	}
}
