package main

import (
	"fmt"
	"time"
)

// ago is a time as people say it; a dash for none.
func ago(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return span(max(0, now.Sub(t))) + " ago"
}

// span is a duration in its two largest units.
func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d m %d s", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d m", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%d d %d h", int(d.Hours())/24, int(d.Hours())%24)
	}
}

// size is a number of bytes as people say it.
func size(n int64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	unit, f := 0, float64(n)
	for ; f >= 1<<10 && unit < len(sizeUnits)-1; unit++ {
		f /= 1 << 10
	}
	return fmt.Sprintf("%.1f %s", f, sizeUnits[unit])
}

var sizeUnits = [...]string{"B", "KiB", "MiB", "GiB", "TiB"}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
