package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"cdc-sidecar/admin"
)

const (
	// jobLook is how often the sidecar is asked how far a job is; it answers from memory.
	jobLook = 250 * time.Millisecond
	// goneFor is how long a sidecar that answered before may be away: a restart takes seconds, and waits for what it needs.
	goneFor = time.Minute
	// cancelWait bounds the last word to the sidecar of somebody who wants to go.
	cancelWait = 5 * time.Second
)

// errors that end a job before it is done.
var (
	errJobInterrupted = errors.New("interrupted: the sidecar was told to end the job; what it had done stays done")
	errOutOfTime      = errors.New("it was not done in the time that --timeout gives; the sidecar was told to end it, what it had done stays done")
	errJobCancelled   = errors.New("the job was cancelled; what it had done stays done")
)

// follower sees a job through to its end.
type follower struct {
	client *client
	spec   admin.Spec
	show   progress

	id       string
	answered time.Time // the sidecar, last
}

// start gives the job to the sidecar.
func (f *follower) start(ctx context.Context) error {
	var started admin.StartedJob
	if err := f.client.post(ctx, "/api/v1/jobs", f.spec, &started); err != nil {
		return err
	}
	f.id, f.answered = started.ID, time.Now()
	return nil
}

// follow returns the job when it has ended. When ctx ends before, the sidecar is told to end the job, and the error says
// so. A sidecar that was started anew forgot the job: it gets it again.
func (f *follower) follow(ctx context.Context) (admin.Job, error) {
	defer f.show.end()
	tick := time.NewTicker(jobLook)
	defer tick.Stop()
	var job admin.Job
	for {
		fresh, note, err := f.look(ctx)
		switch {
		case ctx.Err() != nil:
			f.cancel(ctx)
			return job, untimely(ctx)
		case err != nil:
			return job, err
		case fresh != nil:
			job = *fresh
		}
		f.show.look(job, note, time.Now())
		if job.State.Ended() {
			return job, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// look asks once. A nil job with a note is a sidecar that is away for now.
func (f *follower) look(ctx context.Context) (job *admin.Job, note string, err error) {
	job = &admin.Job{}
	err = f.client.call(ctx, http.MethodGet, "/api/v1/jobs/"+url.PathEscape(f.id), job)
	var problem *problemError
	var gone *environmentError
	switch {
	case err == nil:
		f.answered = time.Now()
		return job, waitsFor(*job), nil
	case errors.As(err, &problem) && problem.status == http.StatusNotFound:
		if err = f.start(ctx); err == nil {
			return nil, "the sidecar was started anew; it has the job again", nil
		}
	}
	if errors.As(err, &gone) || errors.As(err, &problem) && problem.status == http.StatusServiceUnavailable {
		if time.Since(f.answered) < goneFor {
			return nil, err.Error(), nil
		}
	}
	return nil, "", err
}

// untimely is why ctx ended, for people. An interrupt is no success here: the exit code 0 of verify says that all is equal.
func untimely(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return errOutOfTime
	}
	return errJobInterrupted
}

// cancel tells the sidecar to end the job, if it has it. Nobody is left to hear of an error.
func (f *follower) cancel(ctx context.Context) {
	if f.id == "" {
		return
	}
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), cancelWait)
	defer done()
	_ = f.client.call(ctx, http.MethodDelete, "/api/v1/jobs/"+url.PathEscape(f.id), nil)
}

// waitsFor is what a job, or an office's part of it, waits for.
func waitsFor(j admin.Job) string {
	if j.Note != "" || j.State.Ended() {
		return j.Note
	}
	for _, o := range j.Offices {
		if o.Note != "" && !o.State.Ended() {
			return fmt.Sprintf("office %s: %s", o.Office, o.Note)
		}
	}
	return ""
}

// do gives the sidecar a job and sees it through, for at most timeout (0: as long as it takes). A job that failed is an error,
// and comes with it as far as it got.
func (p *program) do(ctx context.Context, c *client, spec admin.Spec, timeout time.Duration) (admin.Job, error) {
	if timeout > 0 {
		var done context.CancelFunc
		ctx, done = context.WithTimeout(ctx, timeout)
		defer done()
	}
	f := &follower{client: c, spec: spec, show: p.newProgress()}
	if err := f.start(ctx); ctx.Err() != nil {
		f.cancel(ctx)
		return admin.Job{}, untimely(ctx)
	} else if err != nil {
		return admin.Job{}, err
	}
	job, err := f.follow(ctx)
	if err != nil {
		return job, err
	}
	switch job.State {
	case admin.JobFailed:
		return job, fmt.Errorf("%s failed: %s", job.Spec.Kind, job.Error)
	case admin.JobCancelled:
		return job, errJobCancelled
	}
	for _, o := range job.Offices {
		if o.State == admin.JobFailed || o.State == admin.JobCancelled {
			return job, fmt.Errorf("office %s: %s", o.Office, dash(o.Error))
		}
	}
	return job, nil
}
