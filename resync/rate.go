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
	return rate.NewLimiter(rate.Limit(perSecond), int(max(perSecond, 1)))
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
