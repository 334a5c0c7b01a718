package main

import (
	"fmt"

	"cdc-sidecar/apply"
)

// DDLConfig is what becomes of schema changes.
type DDLConfig struct {
	apply.DDL      // other offices', here
	Publish   bool // this office's own go to the others
}

// The values of ddl's publish.
const (
	publishAll  = "all"
	publishNone = "none"
)

// ddlConfig checks the keys of ddl.
func (d *document) ddlConfig(c *Config, check func(key string, required bool, use func(text string) error)) {
	c.DDL = DDLConfig{DDL: apply.DDL{Apply: apply.ApplyAdditive, Destructive: apply.HoldDestructive}, Publish: true}
	word := func(key string, use func(s string), words ...string) {
		check(key, false, func(s string) error {
			s, err := oneOf(s, words...)
			if err == nil {
				use(s)
			}
			return err
		})
	}
	word("ddl.apply", func(s string) { c.DDL.Apply = apply.DDLApply(s) },
		string(apply.ApplyAdditive), string(apply.ApplyAll), string(apply.ApplyNone))
	word("ddl.publish", func(s string) { c.DDL.Publish = s == publishAll }, publishAll, publishNone)
	word("ddl.destructive", func(s string) { c.DDL.Destructive = apply.DDLDestructive(s) },
		string(apply.HoldDestructive), string(apply.ApplyDestructive), string(apply.HaltDestructive))
	if _, said := d.settings["ddl.destructive"]; said && c.DDL.Apply != apply.ApplyAdditive {
		c.Notices = append(c.Notices, fmt.Sprintf("ddl: destructive has no effect with apply: %s", c.DDL.Apply))
	}
}
