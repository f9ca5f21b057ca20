// Command apiserver is a Kubernetes API server for tests: etcd and kube-apiserver in one process, on loopback only,
// with token users and RBAC, without nodes, controllers or a scheduler.
//
// It prints one line of JSON once /readyz answers ok, and ends on SIGTERM, on SIGINT and when its standard input
// closes. Hold the other end of that input open, and the server cannot outlive you.
//
// There is no controller manager: namespaces that are deleted stay Terminating, owners do not take their dependents
// along, and namespaces get no default service account.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

const (
	readyTimeout  = 60 * time.Second
	readyInterval = 20 * time.Millisecond
	// Requests in flight may hold the server's own shutdown for a minute; tests need nothing of what they would save.
	shutdownTimeout = 5 * time.Second
)

// announcement is the line printed once the server is ready.
type announcement struct {
	URL            string `json:"url"`
	CAFile         string `json:"ca_file"`
	AdminTokenFile string `json:"admin_token_file"`
}

func main() {
	dataDir := flag.String("data-dir", "", "directory for all state; a server restarted on it finds its objects again")
	securePort := flag.Int("secure-port", 0, "port on 127.0.0.1; 0 picks a free one")
	tokens := flag.String("tokens", "", "further users: a file in kube-apiserver's static token format, "+
		"token,user,uid[,\"group,group\"] on each line")
	flag.Parse()
	if *dataDir == "" || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "usage: apiserver --data-dir DIRECTORY [--secure-port PORT] [--tokens FILE]")
		os.Exit(2)
	}
	if err := run(*dataDir, *securePort, *tokens); err != nil {
		fmt.Fprintf(os.Stderr, "the Kubernetes API server for tests stopped: %v\n", err)
		os.Exit(1)
	}
}

// run serves until it is told to stop (nil) or something fails.
func run(dataDir string, securePort int, tokens string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()

	dataDir, err := filepath.Abs(dataDir)
	if err != nil {
		return err
	}
	files, err := writeFiles(dataDir, tokens)
	if err != nil {
		return fmt.Errorf("could not write to %s: %w", dataDir, err)
	}
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", securePort))
	if err != nil {
		return fmt.Errorf("could not listen: %w", err)
	}
	etcd, err := startEtcd(filepath.Join(dataDir, "etcd"))
	if err != nil {
		return fmt.Errorf("etcd did not start: %w", err)
	}
	defer etcd.Close()

	served := make(chan error, 1)
	go func() { served <- serve(ctx, listener, "http://"+etcd.Clients[0].Addr().String(), files) }()
	ready := make(chan error, 1)
	server := announcement{"https://" + listener.Addr().String(), files.caFile, files.adminTokenFile}
	go func() { ready <- waitReady(ctx, server) }()

	for {
		select {
		case err := <-served:
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("kube-apiserver ended: %w", err)
		case err := <-etcd.Err():
			return fmt.Errorf("etcd ended: %w", err)
		case err := <-ready:
			if err != nil && ctx.Err() == nil {
				return err
			}
			if err == nil {
				if err := json.NewEncoder(os.Stdout).Encode(server); err != nil {
					return err
				}
			}
			ready = nil
		case <-ctx.Done():
			select {
			case <-served:
			case <-time.After(shutdownTimeout):
			}
			return nil
		}
	}
}

// waitReady asks /readyz until it answers ok.
func waitReady(ctx context.Context, server announcement) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	last := errors.New("it was never asked")
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("kube-apiserver was not ready within %s, last answer: %w", readyTimeout, last)
		case <-time.After(readyInterval):
			if last = askReady(ctx, server); last == nil {
				return nil
			}
		}
	}
}

func askReady(ctx context.Context, server announcement) error {
	authority, err := os.ReadFile(server.CAFile)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/readyz", nil)
	if err != nil {
		return err
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(response.Body, 1000))
		return fmt.Errorf("%s: %s", response.Status, body)
	}
	return nil
}
