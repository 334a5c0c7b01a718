package broker

import "sync/atomic"

// Delivery is a message that the broker delivered and wants acknowledged.
type Delivery struct {
	Body        []byte
	Key         string // routing key
	UserID      string // the broker user of its sender, by the broker's word; empty when the sender did not say
	Redelivered bool   // it may have been delivered before

	tag     uint64
	settled atomic.Bool
}

// Settle says that the message is durable at its target, or passed by: the consumer acknowledges it after the present or
// next call of its handler. It may be called from any goroutine, again, and after the session's end, where it does nothing.
func (d *Delivery) Settle() { d.settled.Store(true) }

// unsettled are the deliveries of one session that are not acknowledged yet, in the order in which they came.
type unsettled []*Delivery

// acknowledger is an *amqp.Channel.
type acknowledger interface {
	Ack(tag uint64, multiple bool) error
}

// acknowledge acknowledges what has been settled: everything up to the first that was not with one message, the others one
// by one.
func (u *unsettled) acknowledge(channel acknowledger) error {
	all := *u
	done := 0
	for done < len(all) && all[done].settled.Load() {
		done++
	}
	if done > 0 {
		if err := channel.Ack(all[done-1].tag, true); err != nil {
			return err
		}
	}
	kept := all[:0]
	for _, d := range all[done:] {
		if !d.settled.Load() {
			kept = append(kept, d)
			continue
		}
		if err := channel.Ack(d.tag, false); err != nil {
			return err
		}
	}
	clear(all[len(kept):]) // the bodies may be large
	*u = kept
	return nil
}
