package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/spf13/pflag"
	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"
)

const etcdStartTimeout = 30 * time.Second

// startEtcd returns once etcd takes requests, on a loopback port that the kernel picked.
func startEtcd(dir string) (*embed.Etcd, error) {
	anyPort := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	config := embed.NewConfig()
	config.Dir = dir
	config.LogLevel = "error"
	config.ListenClientUrls, config.AdvertiseClientUrls = anyPort, anyPort
	config.ListenPeerUrls, config.AdvertisePeerUrls = anyPort, anyPort
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	// Each write would otherwise wait for the disk, for a durability that no test asks for.
	config.UnsafeNoFsync = true
	// A lone member wins every election, and need not wait a second for others to stand.
	config.TickMs, config.ElectionMs = 10, 100
	// The gateway would dial the port as configured, 0, again and again.
	config.EnableGRPCGateway = false
	etcd, err := embed.StartEtcd(config)
	if err != nil {
		return nil, err
	}
	select {
	case <-etcd.Server.ReadyNotify():
		return etcd, nil
	case err = <-etcd.Err():
	case <-time.After(etcdStartTimeout):
		err = fmt.Errorf("it was not ready within %s", etcdStartTimeout)
	}
	etcd.Close()
	return nil, err
}

// serve runs kube-apiserver until the context ends.
func serve(ctx context.Context, listener net.Listener, etcdURL string, files stateFiles) error {
	server := options.NewServerRunOptions()
	flags := pflag.NewFlagSet("kube-apiserver", pflag.ContinueOnError)
	namedFlagSets := server.Flags()
	for _, set := range namedFlagSets.FlagSets {
		flags.AddFlagSet(set)
	}
	err := flags.Parse([]string{
		"--etcd-servers=" + etcdURL,
		"--cert-dir=" + files.certDir,
		// Without an address of its own the server looks for a default route, which a machine without network lacks.
		"--advertise-address=127.0.0.1",
		"--endpoint-reconciler-type=none",
		"--service-cluster-ip-range=10.0.0.0/24",
		"--token-auth-file=" + files.tokenFile,
		"--authentication-config=" + files.authenticationFile,
		"--authorization-mode=RBAC",
		// Nobody makes the default service accounts that this plugin would ask for.
		"--disable-admission-plugins=ServiceAccount",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-signing-key-file=" + files.signingKeyFile,
		"--service-account-key-file=" + files.signingKeyFile,
		"--profiling=false",
	})
	if err != nil {
		return err
	}
	// An open listener, rather than a port number, so that nobody else can take a port between its choice and its use.
	server.SecureServing.Listener = listener
	server.SecureServing.BindPort = listener.Addr().(*net.TCPAddr).Port
	server.SecureServing.BindAddress = listener.Addr().(*net.TCPAddr).IP
	if err := server.GenericServerRunOptions.ComponentGlobalsRegistry.Set(); err != nil {
		return err
	}
	completed, err := server.Complete(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(completed.Validate()...); err != nil {
		return err
	}
	return app.Run(ctx, completed)
}
