package sim_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"

	"cdc-sidecar/peer"
)

var errCut = errors.New("the line is cut")

// unsettled is how many deliveries the broker lets a consumer keep.
const unsettled = 16

// queue is an office's queue at the broker: what is not settled when a session ends comes again, in order. It repeats some
// deliveries, and when it is full the oldest go.
type queue struct {
	mu    sync.Mutex
	r     *rand.Rand
	ready []*delivery
	out   []*delivery
	bound bool
	wake  chan struct{}
	plan  *plan
}

type delivery struct {
	body    []byte
	settled bool
}

func (d *delivery) Bytes() []byte { return d.body }
func (d *delivery) User() string  { return "shared" }
func (d *delivery) Settle()       { d.settled = true }

func newQueue(seed uint64, n int, p plan) queue {
	return queue{r: rand.New(rand.NewPCG(seed, uint64(100+n))), wake: make(chan struct{}, 1), plan: &p}
}

func (q *queue) bind() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.bound = true
}

// push reports whether the queue is there.
func (q *queue) push(body []byte) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.bound {
		return false
	}
	q.ready = append(q.ready, &delivery{body: body})
	if q.r.Float64() < q.plan.repeat {
		q.ready = append(q.ready, &delivery{body: body})
	}
	if q.plan.queueLimit > 0 && len(q.ready) > q.plan.queueLimit {
		q.ready = q.ready[len(q.ready)-q.plan.queueLimit:]
	}
	q.call()
	return true
}

func (q *queue) call() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// requeue is the end of a consumer: some of what it had settled was not heard of any more.
func (q *queue) requeue() {
	q.mu.Lock()
	defer q.mu.Unlock()
	var back []*delivery
	for _, d := range q.out {
		if !d.settled || q.r.Float64() < q.plan.repeat {
			back = append(back, &delivery{body: d.body})
		}
	}
	q.ready, q.out = append(back, q.ready...), nil
	if len(q.ready) > 0 {
		q.call()
	}
}

func (q *queue) purge() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ready = nil
}

// take is the next batch.
func (q *queue) take() []peer.Delivery {
	q.mu.Lock()
	defer q.mu.Unlock()
	var kept []*delivery
	for _, d := range q.out {
		if !d.settled {
			kept = append(kept, d)
		}
	}
	q.out = kept
	var batch []peer.Delivery
	for n := 1 + q.r.IntN(8); len(q.ready) > 0 && len(batch) < n && len(q.out) < unsettled; q.ready = q.ready[1:] {
		batch = append(batch, q.ready[0])
		q.out = append(q.out, q.ready[0])
	}
	if len(q.ready) > 0 && len(q.out) < unsettled {
		q.call()
	}
	return batch
}

// wire is an office's way to the broker.
type wire struct{ l *life }

// Publish brings parcels into the queues. When the line breaks behind one, nobody confirms it.
func (x wire) Publish(ctx context.Context, parcels []peer.Parcel) (int, error) {
	o := x.l.o
	for i, p := range parcels {
		if err := o.w.gate(ctx, x.l.gone, string(o.name)+" ship"); err != nil {
			return i, err
		}
		if o.cut.Load() {
			return i, errCut
		}
		reached := false
		for _, to := range o.w.offices {
			if to.role != o.role && (p.To == "" || p.To == to.name) && to.queue.push(p.Body) {
				reached = true
			}
		}
		if !reached {
			return i, peer.ErrNobody
		}
	}
	return len(parcels), nil
}
