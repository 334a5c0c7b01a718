package servers

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// RabbitMQ is one RabbitMQ node, a broker of its own, with the management plugin; its user guest has the password guest.
type RabbitMQ struct {
	*server
	programs rabbitmqPrograms
	settings []string
}

// A node's ports, in the order of server.ports.
const (
	amqpPort = iota
	managementPort
	distributionPort // where Erlang nodes and tools would meet this one
	epmdPort         // of an epmd of its own; the usual 4369 may be another's, and an epmd outlives its node
	rabbitmqPorts
)

// URL is the address of a virtual host, for the user guest; the first virtual host is called "/".
func (r *RabbitMQ) URL(vhost string) string {
	u := &url.URL{Scheme: "amqp", User: url.UserPassword("guest", "guest")}
	if r.external != nil {
		copied := *r.external
		u = &copied
	} else {
		u.Host = net.JoinHostPort("127.0.0.1", strconv.Itoa(r.Port()))
	}
	u.Path, u.RawPath = "/"+vhost, "/"+url.PathEscape(vhost)
	return u.String()
}

func (r *RabbitMQ) prepare(context.Context) error {
	if err := r.linkHome(); err != nil {
		return err
	}
	if err := r.host.write(r.path(".erlang.cookie"), rand.Text()); err != nil {
		return err
	}
	if err := r.host.write(r.path("enabled_plugins"), "[rabbitmq_management].\n"); err != nil {
		return err
	}
	// Names are looked up in this file only, so it does not matter what the machine makes of localhost.
	if err := r.host.write(r.path("inetrc"), "{host,{127,0,0,1},[\"localhost\"]}.\n{lookup,[file]}.\n"); err != nil {
		return err
	}
	settings := append([]string{
		fmt.Sprintf("listeners.tcp.1 = 127.0.0.1:%d", r.ports[amqpPort].number),
		"management.tcp.ip = 127.0.0.1",
		fmt.Sprintf("management.tcp.port = %d", r.ports[managementPort].number),
		"collect_statistics_interval = 1000", // ms; the default of 5 s makes tests that ask for counts wait
		"disk_free_limit.absolute = 100MB",
		"vm_memory_high_watermark.absolute = 1GB",
		"raft.wal_max_size_bytes = 16777216", // it is allocated at start, and the default is 512 MB
	}, r.settings...)
	return r.host.write(r.path("rabbitmq.conf"), strings.Join(settings, "\n")+"\n")
}

// linkHome makes a folder of links that looks like RabbitMQ's home with only the plugins that are needed: Erlang's code
// path becomes a third as long, which saves a second or more of each start.
func (r *RabbitMQ) linkHome() error {
	if err := r.host.mkdir(r.path("home/plugins")); err != nil {
		return err
	}
	for _, name := range []string{"sbin", "escript"} {
		if err := os.Symlink(filepath.Join(r.programs.home, name), r.path("home/"+name)); err != nil {
			return err
		}
	}
	plugins, err := os.ReadDir(filepath.Join(r.programs.home, "plugins"))
	if err != nil {
		return err
	}
	for _, plugin := range plugins {
		if !wanted(plugin.Name()) {
			continue
		}
		target := filepath.Join(r.programs.home, "plugins", plugin.Name())
		if err := os.Symlink(target, r.path("home/plugins/"+plugin.Name())); err != nil {
			return err
		}
	}
	return r.host.chown(r.path("home"))
}

// wanted says whether the broker with its management plugin needs a folder of the plugins, whose names end in a version.
func wanted(folder string) bool {
	name, _, _ := strings.Cut(folder, "-")
	switch name {
	case "rabbitmq_prelaunch", "rabbitmq_management", "rabbitmq_management_agent", "rabbitmq_web_dispatch":
		return true
	case "eetcd", "gun", "prometheus", "accept":
		return false
	}
	return !strings.HasPrefix(name, "rabbitmq_")
}

func (r *RabbitMQ) environment() []string {
	number := func(i int) string { return strconv.Itoa(r.ports[i].number) }
	return []string{
		"ERL_EPMD_PORT=" + number(epmdPort),
		"ERL_EPMD_ADDRESS=127.0.0.1",
		// Neither the node nor the helper by which RabbitMQ makes sure of an epmd may start one, which nobody would end.
		"ERL_FLAGS=-start_epmd false",
		"ERL_CRASH_DUMP=" + r.path("erl_crash.dump"),
		"ERL_INETRC=" + r.path("inetrc"),
		"RABBITMQ_SCRIPTS_DIR=" + r.path("home/sbin"),
		"RABBITMQ_NODENAME=rmq" + number(amqpPort) + "@localhost",
		"RABBITMQ_DIST_PORT=" + number(distributionPort),
		"RABBITMQ_CONF_ENV_FILE=/dev/null",
		"RABBITMQ_CONFIG_FILE=" + r.path("rabbitmq.conf"),
		"RABBITMQ_ADVANCED_CONFIG_FILE=" + r.path("advanced.config"),
		"RABBITMQ_ENABLED_PLUGINS_FILE=" + r.path("enabled_plugins"),
		"RABBITMQ_MNESIA_BASE=" + r.path("mnesia"),
		"RABBITMQ_LOG_BASE=" + r.path("logs"),
		"RABBITMQ_LOGS=-",
		"RABBITMQ_PID_FILE=" + r.path("pid"),
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1}",
		// Makes the launch script become the node instead of its parent, so that the pid is the node's.
		"RUNNING_UNDER_SYSTEMD=true",
	}
}

func (r *RabbitMQ) launch(ctx context.Context) ([]*process, error) {
	// An epmd of our own: the one that the node would start by itself would stay when the node ends.
	epmd, err := r.host.run(ctx, program{
		dir: r.dir(), log: r.Log(), env: r.environment(),
		args: []string{r.programs.epmd, "-address", "127.0.0.1", "-port", strconv.Itoa(r.ports[epmdPort].number)},
	})
	if err != nil {
		return nil, err
	}
	listens := func(ctx context.Context) error { return r.dial(ctx, epmdPort, nil) }
	if err := epmd.untilReady(ctx, listens); err != nil {
		return []*process{epmd}, fmt.Errorf("epmd: %w", err)
	}
	node, err := r.host.run(ctx, program{
		dir: r.dir(), log: r.Log(), env: r.environment(),
		args: []string{filepath.Join(r.programs.home, "sbin/rabbitmq-server")},
	})
	if err != nil {
		return []*process{epmd}, err
	}
	return []*process{epmd, node}, nil
}

// probe wants the broker's first words: the port alone is open before the broker is, and after an unclean end.
func (r *RabbitMQ) probe(ctx context.Context) error {
	if err := r.dial(ctx, amqpPort, greet); err != nil {
		return err
	}
	return r.API(ctx, "GET", "vhosts", nil, nil)
}

func (r *RabbitMQ) dial(ctx context.Context, which int, talk func(net.Conn) error) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(r.ports[which].number)))
	if err != nil {
		return err
	}
	if talk != nil {
		stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
		defer stop()
		err = talk(conn)
	}
	if closeErr := conn.Close(); !errors.Is(closeErr, net.ErrClosed) {
		err = errors.Join(err, closeErr)
	}
	return err
}

// greet offers AMQP 0.9.1 and expects a method frame, which is connection.start.
func greet(conn net.Conn) error {
	if _, err := conn.Write([]byte("AMQP\x00\x00\x09\x01")); err != nil {
		return err
	}
	start := make([]byte, 11) // type, channel, size, class 10, method 10
	if _, err := io.ReadFull(conn, start); err != nil {
		return err
	}
	if start[0] != 1 || !bytes.Equal(start[7:], []byte{0, 10, 0, 10}) {
		return fmt.Errorf("greeted with % x", start)
	}
	return nil
}

func (r *RabbitMQ) stopSignal() syscall.Signal { return syscall.SIGTERM }

func (r *RabbitMQ) portCount() int { return rabbitmqPorts }

func (r *RabbitMQ) path(name string) string { return filepath.Join(r.dir(), name) }
