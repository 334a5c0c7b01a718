// Package e2e has the flow tests: whole offices with their own sidecar processes on real servers, writing, failing and ending
// equal. They run the binaries that make builds (CDC_RACE_BINARY for flow and chaos, CDC_PLAIN_BINARY for volume and memory).
package e2e
