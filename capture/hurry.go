package capture

import "sync/atomic"

// Hurry lets those who wait for the log to be read to a mark say so: as long as somebody does, a flood gathers for a moment
// only. Its methods may be called from any goroutine, and on nil, where nobody ever waits.
type Hurry struct {
	waiting atomic.Int32
	began   chan struct{}
}

// NewHurry makes one, for a source and whoever waits for it.
func NewHurry() *Hurry { return &Hurry{began: make(chan struct{}, 1)} }

// Begin says that somebody waits from now on, until End.
func (h *Hurry) Begin() {
	if h == nil {
		return
	}
	h.waiting.Add(1)
	select {
	case h.began <- struct{}{}:
	default:
	}
}

// End takes one Begin back.
func (h *Hurry) End() {
	if h != nil {
		h.waiting.Add(-1)
	}
}

func (h *Hurry) someoneWaits() bool { return h != nil && h.waiting.Load() > 0 }

// calls is a channel that has something when somebody has begun to wait.
func (h *Hurry) calls() <-chan struct{} {
	if h == nil {
		return nil
	}
	return h.began
}
