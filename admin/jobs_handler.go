package admin

import (
	"encoding/json"
	"errors"
	"net/http"
)

// maxSpec is a Spec with the longest expression, every character of it escaped, and some air.
const maxSpec = 6*maxWhere + 1<<10

func (a *api) startJob(w http.ResponseWriter, r *http.Request) {
	var spec Spec
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxSpec))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&spec); err != nil {
		problem(w, http.StatusBadRequest, `want a job, like {"kind": "verify", "table": "public.orders"}: `+err.Error())
		return
	}
	if err := spec.Check(); err != nil {
		problem(w, http.StatusBadRequest, err.Error())
		return
	}
	if !a.takesJobs(w) {
		return
	}
	id, err := a.Jobs.Start(spec)
	var bad *SpecError
	switch {
	case err == nil:
		w.Header().Set("Location", "/api/v1/jobs/"+id)
		reply(w, http.StatusAccepted, StartedJob{ID: id})
	case errors.Is(err, ErrUnknownOffice):
		problem(w, http.StatusNotFound, err.Error())
	case errors.As(err, &bad):
		problem(w, http.StatusBadRequest, err.Error())
	default:
		problem(w, http.StatusServiceUnavailable, err.Error())
	}
}

func (a *api) listJobs(w http.ResponseWriter, _ *http.Request) {
	if !a.takesJobs(w) {
		return
	}
	list := JobList{Jobs: []Job{}}
	for _, j := range a.Jobs.List() {
		list.Jobs = append(list.Jobs, j.filled(false))
	}
	reply(w, http.StatusOK, list)
}

func (a *api) showJob(w http.ResponseWriter, r *http.Request) {
	if !a.takesJobs(w) {
		return
	}
	j, err := a.Jobs.Job(r.PathValue("id"))
	if err != nil {
		jobProblem(w, err)
		return
	}
	reply(w, http.StatusOK, j.filled(true))
}

func (a *api) cancelJob(w http.ResponseWriter, r *http.Request) {
	if !a.takesJobs(w) {
		return
	}
	if err := a.Jobs.Cancel(r.PathValue("id")); err != nil {
		jobProblem(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// takesJobs answers by itself where there is nobody to do them.
func (a *api) takesJobs(w http.ResponseWriter) bool {
	if a.Jobs == nil {
		problem(w, http.StatusServiceUnavailable, "the sidecar takes no jobs (yet)")
	}
	return a.Jobs != nil
}

func jobProblem(w http.ResponseWriter, err error) {
	code := http.StatusServiceUnavailable
	if errors.Is(err, ErrUnknownJob) {
		code = http.StatusNotFound
	}
	problem(w, code, err.Error())
}

// filled has empty lists where j has none, and keys only when they are wanted. What the caller of Jobs holds stays as it is.
func (j Job) filled(keys bool) Job {
	offices := append([]OfficeReport{}, j.Offices...)
	for i := range offices {
		tables := append([]TableReport{}, offices[i].Tables...)
		for k := range tables {
			if !keys {
				tables[k].Keys = nil
			}
		}
		offices[i].Tables = tables
	}
	j.Offices = offices
	return j
}
