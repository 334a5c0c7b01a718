package main

import (
	"encoding/json"
	"errors"
	"slices"
	"time"

	"cdc-sidecar/resync"
	"cdc-sidecar/schema"
)

// places are where the streams of the others end, by their own word, given since they were asked. What they say by themselves may
// have waited in the broker since the last sync.
type places struct {
	id    uint64                      // of the question, at the head
	asked map[schema.Office]time.Time // last
	job   *resync.Job                 // at a branch: it finds out about the head
	// results are the branches' answers. jobs.mu guards them.
	results map[schema.Office]resync.Result
}

// askPlaces begins to ask.
func (j *jobs) askPlaces() *places {
	p := &places{asked: map[schema.Office]time.Time{}, results: map[schema.Office]resync.Result{}}
	if client := j.s.equal.client; client != nil {
		p.job = client.Start(resync.Spec{Place: true}, nil)
		return p
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.last++
	p.id = j.last
	j.places = append(j.places, p)
	return p
}

// askAlive is how often somebody is asked who is there, and has not answered: soon, because he may close his line.
const askAlive = 250 * time.Millisecond

// remindPlaces says the question again to those who have not answered: a newcomer does not know us when he hears it first.
func (j *jobs) remindPlaces(p *places, now time.Time) {
	spec, err := json.Marshal(resync.Spec{Place: true})
	if p.job != nil || err != nil { // of plain fields: cannot be
		return
	}
	members, _ := j.s.peers.Status()
	for i := range members {
		m := &members[i]
		every := remindEvery
		if m.Heard.After(p.asked[m.Office]) {
			every = askAlive
		}
		if _, answered, _ := j.place(p, m.Office); answered || now.Sub(p.asked[m.Office]) < every {
			continue
		}
		p.asked[m.Office] = now
		j.s.peers.Say(m.Office, schema.Control{Compare: &schema.Compare{To: m.Office, ID: p.id, Spec: spec}})
	}
}

// place is where an office's stream ends, if it has said so.
func (j *jobs) place(p *places, office schema.Office) (end schema.Position, answered bool, err error) {
	var r resync.Result
	if p.job != nil {
		r = j.s.equal.client.Result(p.job)
		end = r.Head
	} else {
		j.mu.Lock()
		r = p.results[office]
		j.mu.Unlock()
		end = r.Own
	}
	switch r.State {
	case resync.Done:
		return end, true, nil
	case resync.Failed, resync.Cancelled:
		return end, false, errors.New("it does not say where its stream ends: " + dash(r.Error))
	}
	return end, false, nil
}

// placed takes a branch's answer; false: it is none. The caller holds mu.
func (j *jobs) placed(from schema.Office, id uint64, r *resync.Result) bool {
	for _, p := range j.places {
		if p.id == id {
			p.results[from] = *r
			return true
		}
	}
	return false
}

// forgetPlaces ends the question.
func (j *jobs) forgetPlaces(p *places) {
	if p.job != nil {
		j.s.equal.client.Cancel(p.job)
		return
	}
	for office := range p.asked {
		if _, answered, _ := j.place(p, office); !answered {
			j.s.peers.Say(office, schema.Control{Compare: &schema.Compare{To: office, ID: p.id}})
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.places = slices.DeleteFunc(j.places, func(q *places) bool { return q == p })
}
