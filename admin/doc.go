// Package admin is the sidecar's window: probes, metrics and the HTTP API, all read from one Status. It changes nothing
// but what its Source (RemoveOffice) and the conflict log (Resolve) offer, keeps no state of its own, and knows no other room:
// whoever starts it hands them over.
package admin
