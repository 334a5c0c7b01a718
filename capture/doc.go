// Package capture reads an office's database log, in commit order, and hands every committed transaction to a sink (the
// journal). It begins where the journal stopped and lets go of the log only behind what the sink has made durable.
//
// Run is the corridor; a Source is one engine's log. What decodes is pure (postgres_decode, mysql_decode), what talks to a
// server is thin (postgres, mysql). Nothing here reconnects: an error ends Run, and the supervisor starts it again.
package capture
