package broker

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// meddler is a man in the middle who knows AMQP's frames: what cannot be had from a healthy broker on demand, he says in
// the broker's name.
type meddler struct {
	listener net.Listener
	mu       sync.Mutex
	clients  []net.Conn
	// cutAfter, when positive, is how many frames of the broker pass before the line is cut.
	cutAfter int
	done     sync.WaitGroup
}

// meddle puts a meddler before the broker and returns the URL that leads through him.
func meddle(t *testing.T, broker string, cutAfter int) (*meddler, string) {
	t.Helper()
	u, err := url.Parse(broker)
	if err != nil {
		t.Fatal(err)
	}
	m := &meddler{cutAfter: cutAfter}
	var listen net.ListenConfig
	if m.listener, err = listen.Listen(t.Context(), "tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	m.done.Add(1)
	go m.accept(t.Context(), u.Host)
	t.Cleanup(m.close)
	u.Host = m.listener.Addr().String()
	return m, u.String()
}

func (m *meddler) accept(ctx context.Context, broker string) {
	defer m.done.Done()
	var dialer net.Dialer
	for {
		client, err := m.listener.Accept()
		if err != nil {
			return
		}
		server, err := dialer.DialContext(ctx, "tcp", broker)
		if err != nil {
			_ = client.Close()
			continue
		}
		m.mu.Lock()
		m.clients = append(m.clients, client)
		m.mu.Unlock()
		m.done.Add(2)
		go func() {
			defer m.done.Done()
			_, _ = io.Copy(server, client)
			_ = server.Close()
		}()
		go func() {
			defer m.done.Done()
			m.pass(server, client)
			_ = client.Close()
			_ = server.Close()
		}()
	}
}

// pass hands the broker's frames to the client, whole, so that there is a place between them.
func (m *meddler) pass(server io.Reader, client io.Writer) {
	for n := 1; ; n++ {
		head := make([]byte, 7)
		if _, err := io.ReadFull(server, head); err != nil {
			return
		}
		rest := make([]byte, binary.BigEndian.Uint32(head[3:])+1)
		if _, err := io.ReadFull(server, rest); err != nil {
			return
		}
		m.mu.Lock()
		_, err := client.Write(append(head, rest...))
		m.mu.Unlock()
		if err != nil || n == m.cutAfter {
			return
		}
	}
}

// say sends every client a method of the connection class.
func (m *meddler) say(t *testing.T, method uint16, arguments ...byte) {
	t.Helper()
	frame := []byte{1, 0, 0}
	frame = binary.BigEndian.AppendUint32(frame, uint32(4+len(arguments)))
	frame = binary.BigEndian.AppendUint16(frame, 10)
	frame = binary.BigEndian.AppendUint16(frame, method)
	frame = append(append(frame, arguments...), 0xCE)
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, client := range m.clients {
		if _, err := client.Write(frame); err != nil {
			t.Fatal(err)
		}
	}
}

func (m *meddler) block(t *testing.T, reason string) {
	m.say(t, 60, append([]byte{byte(len(reason))}, reason...)...)
}

func (m *meddler) unblock(t *testing.T) { m.say(t, 61) }

func (m *meddler) close() {
	_ = m.listener.Close()
	m.mu.Lock()
	for _, client := range m.clients {
		_ = client.Close()
	}
	m.mu.Unlock()
	m.done.Wait()
}
