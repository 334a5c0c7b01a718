package admin

import (
	"math"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"cdc-sidecar/schema"
)

// metrics answers with a registry of its own: what libraries register by themselves is not ours to publish.
func (a *api) metrics() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		&collector{source: a.Source, version: a.Version},
	)
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry})
}

// collector turns one Status into metrics, so that they agree with each other and with the API.
type collector struct {
	source  Source
	version string
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("cdc_"+name, help, labels, nil)
}

// The metrics. Labels are offices, corridors, operations and states: few, and bounded by the fleet. A join has
// the tables that are being joined for labels, while it lasts. Conflicts have tables for labels: times seven policies and four winners at most, and a table has one policy at a time.
var (
	buildInfo         = describe("build_info", "Always 1; the labels say which build this is.", "version", "goversion")
	state             = describe("state", "1 for the state the sidecar is in, 0 for the others.", "state")
	ready             = describe("ready", "1 while local changes are captured.")
	corridorUp        = describe("up", "1 while the corridor runs.", "corridor")
	corridorRestarts  = describe("corridor_restarts_total", "Times the corridor was started again after an error.", "corridor")
	captureTxs        = describe("capture_transactions_total", "Transactions read from the office's own log.")
	captureEvents     = describe("capture_events_total", "Changes read from the office's own log.", "op")
	captureLag        = describe("capture_lag_seconds", "From commit in the database to the journal, of the last transaction.")
	captureLast       = describe("capture_last_commit_timestamp_seconds", "Commit time of the last transaction captured.")
	journalBytes      = describe("journal_bytes", "Size of the journal on disk.")
	journalBudget     = describe("journal_budget_bytes", "What the journal may take before absent offices are given up.")
	journalEntries    = describe("journal_entries", "Transactions that the journal holds.")
	journalUnsent     = describe("journal_unsent_entries", "Transactions that the broker has not confirmed.")
	journalLastSeq    = describe("journal_last_seq", "Number of the last transaction in the journal.")
	brokerConnected   = describe("broker_connected", "1 while connected to the broker.")
	brokerBlocked     = describe("broker_blocked", "1 while the broker takes nothing (memory or disk alarm).")
	published         = describe("publish_messages_total", "Messages that the broker confirmed.")
	publishReturned   = describe("publish_returned_total", "Messages that the broker gave back because no queue wanted them.")
	received          = describe("receive_messages_total", "Messages taken from the queue.")
	quarantined       = describe("receive_quarantined_total", "Messages in the queue that were not ours, passed by.")
	wireBytes         = describe("wire_bytes_total", "Bytes of message bodies.", "direction")
	receiveGaps       = describe("receive_gaps_total", "Holes found in streams, to be filled by a resend.")
	receiveDuplicates = describe("receive_duplicates_total", "Transactions that had been applied before.")
	applyTxs          = describe("apply_transactions_total", "Transactions applied to the office's own database.")
	applyEvents       = describe("apply_events_total", "Changes applied to the office's own database.", "op")
	applyRepaired     = describe("apply_repaired_total", "Rows that were not as a change expected, and are now.")
	applyReplaced     = describe("apply_replaced_values_total", "Values that a column cannot hold, and for which unmapped gave others.")
	applyOwn          = describe("apply_own_returned_total", "Changes of this office that came back as acknowledgement.")
	conflicts         = describe("conflicts_total", "Conflicts decided at the head.", "table", "policy", "winner")
	conflictsOpen     = describe("conflicts_open", "Conflicts that wait for a person.")
	parkedChanges     = describe("parked_changes", "Changes that wait because another row has their unique key, and those behind them.")
	schemaSteps       = describe("schema_steps", "Steps of other offices' schema changes that were not done here.", "state")
	driftTables       = describe("drift_tables", "Tables of a branch that differ from the head's, by its last look.", "office")
	heldChanges       = describe("held_changes_total", "Changes of the head skipped at a branch, because the head will meet the branch's own of the same row.")
	barriers          = describe("barriers_total", "Times that a decision waited for the head's own capture to pass the log's end.")
	barrierSeconds    = describe("barrier_seconds", "Time that decisions waited for the head's own capture to pass the log's end.")
	rowClocks         = describe("row_clocks", "Rows that have a clock.")
	rowClockBytes     = describe("row_clock_bytes", "Memory that the index of row clocks takes.")
	rowClockDisk      = describe("row_clock_disk_bytes", "Disk that the index of row clocks takes.")
	peerStates        = describe("peer_state", "1 for the state the peer is in, 0 for the others.", "peer", "state")
	peerUnacked       = describe("peer_unacknowledged_entries", "Our transactions that the peer has not reported as applied.", "peer")
	peerHeard         = describe("peer_last_heard_timestamp_seconds", "When the peer was last heard.", "peer")
	syncOpen          = describe("sync_open", "1 while the office speaks with the others: always in realtime, else during a sync.")
	snapshotRows      = describe("snapshot_rows", "Rows of the table that a join has dealt with.", "table")
	snapshotEstimated = describe("snapshot_rows_estimated", "About how many rows of the table a join has to deal with.", "table")
	verifyRows        = describe("verify_rows_total", "Rows compared with the head's, by what was found.", "result")
	verifyDiverged    = describe("verify_tables_diverged", "Tables that were not equal when they were last compared.")
	verifySuccess     = describe("verify_last_success_timestamp_seconds", "When a comparison last ran to its end.")
	lastApplied       = describe("last_applied_commit_timestamp_seconds", "Commit time at the origin of the last transaction applied.", "origin")
	deadline          = describe("source_retention_deadline_timestamp_seconds",
		"When the database's log would lose our place in it if nothing changed; +Inf while nothing threatens.")
)

// Describe sends nothing: which metrics there are depends on the peers, so the collector is an unchecked one.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect takes one snapshot.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	s := c.source.Status()
	m := sender(out)
	m.gauge(buildInfo, 1, c.version, runtime.Version())
	for _, known := range []State{Starting, Running, Degraded, Blocked, Stopped} {
		m.gauge(state, truth(s.State == known), string(known))
	}
	m.gauge(ready, truth(s.Ready))
	for _, corridor := range s.Corridors {
		m.gauge(corridorUp, truth(corridor.State == CorridorRunning), string(corridor.Name))
		m.count(corridorRestarts, corridor.Restarts, string(corridor.Name))
	}
	m.capture(s)
	m.journal(s.Journal)
	m.broker(s.Broker)
	m.apply(s.Apply)
	m.conflicts(s)
	m.equality(s)
	m.tables(s)
	for _, p := range s.Peers {
		m.peer(p)
	}
}

// sender makes metrics out of numbers.
type sender chan<- prometheus.Metric

func (m sender) gauge(d *prometheus.Desc, v float64, labels ...string) {
	m <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (m sender) count(d *prometheus.Desc, v uint64, labels ...string) {
	m <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

// time leaves the metric out while there is no time: 0 would read as 1970.
func (m sender) time(d *prometheus.Desc, t time.Time, labels ...string) {
	if !t.IsZero() {
		m.gauge(d, seconds(t), labels...)
	}
}

func (m sender) changes(d *prometheus.Desc, c Changes) {
	m.count(d, c.Insert, "insert")
	m.count(d, c.Update, "update")
	m.count(d, c.Delete, "delete")
	m.count(d, c.Truncate, "truncate")
}

func (m sender) capture(s Status) {
	m.count(captureTxs, s.Capture.Transactions)
	m.changes(captureEvents, s.Capture.Changes)
	m.gauge(captureLag, s.Capture.LagSeconds)
	m.time(captureLast, s.Capture.LastCommit)
	if s.RetentionDeadline.IsZero() {
		m.gauge(deadline, math.Inf(1))
	} else {
		m.gauge(deadline, seconds(s.RetentionDeadline))
	}
}

func (m sender) journal(j Journal) {
	m.gauge(journalBytes, float64(j.Bytes))
	m.gauge(journalBudget, float64(j.Budget))
	m.gauge(journalEntries, float64(j.Held()))
	m.gauge(journalUnsent, float64(j.Unsent()))
	m.gauge(journalLastSeq, float64(j.Last))
}

func (m sender) broker(b Broker) {
	m.gauge(brokerConnected, truth(b.Connected))
	m.gauge(brokerBlocked, truth(b.Blocked != ""))
	m.count(published, b.Published)
	m.count(publishReturned, b.Returned)
	m.count(received, b.Received)
	m.count(quarantined, b.Quarantined)
	m.count(wireBytes, b.Bytes, "send")
	m.count(wireBytes, b.ReceivedBytes, "receive")
}

func (m sender) apply(a Apply) {
	m.count(applyTxs, a.Transactions)
	m.changes(applyEvents, a.Changes)
	m.count(applyRepaired, a.Repaired)
	m.count(applyReplaced, a.Replaced)
	m.count(applyOwn, a.OwnReturned)
	m.count(receiveGaps, a.Gaps)
	m.count(receiveDuplicates, a.Duplicates)
}

func (m sender) conflicts(s Status) {
	for _, c := range s.Conflicts.ByTable {
		m.count(conflicts, c.Count, c.Table, c.Policy, c.Winner)
	}
	m.gauge(conflictsOpen, float64(s.Conflicts.Open))
	m.gauge(parkedChanges, float64(s.Parked))
	m.count(heldChanges, s.Clocks.Held)
	m.count(barriers, s.Clocks.Barriers)
	m <- prometheus.MustNewConstSummary(barrierSeconds, s.Clocks.Barriers, s.Clocks.BarrierSeconds, nil)
	m.gauge(rowClocks, float64(s.Clocks.Rows))
	m.gauge(rowClockBytes, float64(s.Clocks.Bytes))
	m.gauge(rowClockDisk, float64(s.Clocks.DiskBytes))
}

// tables is about offices having the same tables. Of a branch that has not looked yet there is nothing.
func (m sender) tables(s Status) {
	m.gauge(schemaSteps, float64(s.DDL.Held), "held")
	m.gauge(schemaSteps, float64(s.DDL.Failed), "failed")
	drift := func(office schema.Office, d *Drift) {
		if d != nil {
			m.gauge(driftTables, float64(d.Different), string(office))
		}
	}
	drift(s.Office, s.Drift)
	for _, p := range s.Peers {
		drift(p.Office, p.Drift)
	}
}

// equality is about offices being equal: joining, comparing, and when they speak at all.
func (m sender) equality(s Status) {
	m.gauge(syncOpen, truth(s.Sync.Open))
	if s.Joining != nil {
		for _, t := range s.Joining.Tables {
			m.gauge(snapshotRows, float64(t.Rows), t.Table)
			m.gauge(snapshotEstimated, float64(t.Total), t.Table)
		}
	}
	m.count(verifyRows, s.Verify.Equal, "equal")
	m.count(verifyRows, s.Verify.Different, "different")
	m.count(verifyRows, s.Verify.MissingHere, "missing_here")
	m.count(verifyRows, s.Verify.MissingThere, "missing_there")
	m.count(verifyRows, s.Verify.Disputed, "disputed")
	m.gauge(verifyDiverged, float64(s.Verify.Diverged))
	m.time(verifySuccess, s.Verify.LastSuccess)
}

func (m sender) peer(p Peer) {
	office := string(p.Office)
	for _, known := range []PeerState{PeerActive, PeerSilent, PeerGap, PeerHeld, PeerHalted, PeerExpired, PeerNeedsJoin} {
		m.gauge(peerStates, truth(p.State == known), office, string(known))
	}
	m.gauge(peerUnacked, float64(p.Unacknowledged), office)
	m.time(peerHeard, p.LastHeard, office)
	m.time(lastApplied, p.LastApplied, office)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func seconds(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }
