package main

// The tables of the section.
const (
	rateTable   = "Catch-up, rows a second"
	startTable  = "Of that: seconds from the start to the first row, and rows a second from there on"
	cpuTable    = "CPU seconds per million rows"
	memoryTable = "Peak memory of the sidecars and bytes on the broker"
)

// catchupMusts are ratios to native replication, MariaDB's with four threads.
var catchupMusts = map[string]map[string]*must{
	"pg-pg":       {insert100: atLeast(0.5, 0.8), update1: atLeast(1, 1.5), bigtxn: atLeast(0.8, 1.3)},
	"maria-maria": {insert100: atLeast(0.3, 0.6), update1: atLeast(1, 1.5), bigtxn: atLeast(0.3, 0.6)},
}

// report adds a pair's figures.
func (r *rivalry) report() {
	us := r.names[0]
	for _, phase := range r.phases {
		row := r.pair.name + " " + phase
		rows := float64(r.sizes.rows(phase))
		rates := map[string]samples{}
		for _, name := range r.names {
			rates[name] = r.samples(phase, name, func(o outcome) float64 { return rows / o.seconds })
			r.bench.report.add(median(rateTable, row, name, rates[name], nil))
		}
		for i, name := range r.names[1:] {
			var m *must
			if i == 0 {
				m = catchupMusts[r.pair.name][phase]
			}
			r.bench.report.add(ratio(rateTable, row, "ours / "+name, rates[us], rates[name], m))
		}
		for _, name := range r.names {
			r.bench.report.add(
				median(startTable, row, name+", start", r.samples(phase, name, func(o outcome) float64 { return o.starting }), nil),
				median(startTable, row, name+", rows/s", r.samples(phase, name, func(o outcome) float64 { return rows / (o.seconds - o.starting) }), nil))
		}
		r.reportCPU(phase, row, rows)
		for _, role := range []string{headSidecar, branchSidecar} {
			r.bench.report.add(median(memoryTable, row, role+", MB", r.samples(phase, us, func(o outcome) float64 { return o.peak[role] }), atMost(120, 0)))
		}
		r.bench.report.add(median(memoryTable, row, "bytes a row", r.samples(phase, us, func(o outcome) float64 { return o.bytesPerRow }), nil))
	}
	r.bench.report.note("%s: source and every target equal after every phase of every round: the number of rows and the sum of all rows' hashes (orders: %s rows)", r.pair.name, number(float64(r.sizes.inserts)))
}

func (r *rivalry) reportCPU(phase, row string, rows float64) {
	us := r.names[0]
	per := func(name string, roles ...string) samples {
		return r.samples(phase, name, func(o outcome) float64 {
			sum := 0.0
			for _, role := range roles {
				sum += o.cpu[role]
			}
			return sum / rows * 1e6
		})
	}
	var m *must
	if phase == insert100 && !r.pair.back {
		m = atMost(20, 10)
	}
	r.bench.report.add(
		median(cpuTable, row, "both sidecars", per(us, headSidecar, branchSidecar), m),
		median(cpuTable, row, headSidecar, per(us, headSidecar), nil),
		median(cpuTable, row, branchSidecar, per(us, branchSidecar), nil),
		median(cpuTable, row, sourceServer, per(us, sourceServer), nil),
		median(cpuTable, row, targetServer, per(us, targetServer), nil),
		median(cpuTable, row, brokerServer, per(us, brokerServer), nil))
	for _, name := range r.names[1:] {
		r.bench.report.add(
			median(cpuTable, row, name+": source server", per(name, sourceServer), nil),
			median(cpuTable, row, name+": target server", per(name, targetServer), nil))
	}
}

func (r *rivalry) samples(phase, name string, of func(outcome) float64) samples {
	var s samples
	for _, o := range r.outcomes[phase][name] {
		s = append(s, of(o))
	}
	return s
}
