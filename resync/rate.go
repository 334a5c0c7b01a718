package resync

import (
	"context"

	"golang.org/x/time/rate"
)

// pace keeps what is read below so many rows and bytes a second; 0 is no limit.
type pace struct{ rows, bytes *rate.Limiter }

func newPace(rows, bytes uint64) pace {
	return pace{limiter(rows), limiter(bytes)}
}

func limiter(perSecond uint64) *rate.Limiter {
	if perSecond == 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(perSecond), int(max(perSecond/sharesASecond, 1)))
}

const (
	// sharesASecond is how often a second something is read under a limit: little at a time is what others do not notice.
	sharesASecond = 10
	// The first request under a limit is for so many bytes of rows, and none for fewer than the least.
	firstShare = 64 << 10
	leastShare = 4 << 10
)

// share is how many bytes of rows to ask for, after an answer to the last such request that had so many rows and bytes on the
// line: about as many as may be spent in a share of a second.
func (p pace) share(last uint64, rows, bytes int) uint64 {
	factor := 2.0
	for limit, got := range map[*rate.Limiter]int{p.rows: rows, p.bytes: bytes} {
		if limit != nil && got > 0 {
			factor = min(factor, float64(limit.Limit())/sharesASecond/float64(got))
		}
	}
	return uint64(min(max(factor*float64(last), leastShare), chunkBytes))
}

func (p pace) limited() bool { return p.rows != nil || p.bytes != nil }

// spent waits until so much may be spent again.
func (p pace) spent(ctx context.Context, rows, bytes int) error {
	if err := spend(ctx, p.rows, rows); err != nil {
		return err
	}
	return spend(ctx, p.bytes, bytes)
}

func spend(ctx context.Context, l *rate.Limiter, n int) error {
	for l != nil && n > 0 {
		part := min(n, l.Burst())
		if err := l.WaitN(ctx, part); err != nil {
			return err
		}
		n -= part
	}
	return nil
}
