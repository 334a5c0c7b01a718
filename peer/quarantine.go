package peer

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// quarantined is how many foreign messages are kept for a person to look at; more are counted only.
const quarantined = 64

// quarantine keeps a message that is not ours beside the journal and passes it by.
func (p *Peers) quarantine(d Delivery, cause error) {
	p.mu.Lock()
	p.counts.Quarantined++
	n := p.counts.Quarantined
	p.mu.Unlock()
	dir := filepath.Join(p.cfg.Dir, "quarantine")
	name := filepath.Join(dir, fmt.Sprintf("%s-%d.bin", time.Now().UTC().Format("20060102T150405"), n%quarantined))
	err := os.MkdirAll(dir, 0o700)
	if err == nil && n <= quarantined {
		err = os.WriteFile(name, d.Bytes(), 0o600)
	}
	p.cfg.Log.Warn("a message that is not ours is quarantined and passed by", "cause", cause, "bytes", len(d.Bytes()), "file", name, "kept", err == nil && n <= quarantined)
}
