package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// authenticationConfig lets nobody in without a token, except to ask whether the server lives.
const authenticationConfig = `apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
anonymous:
  enabled: true
  conditions:
    - path: /readyz
    - path: /livez
    - path: /healthz
`

// stateFiles are the paths of what the server reads and what its clients need.
type stateFiles struct {
	certDir, caFile, adminTokenFile, tokenFile, signingKeyFile, authenticationFile string
}

// writeFiles makes the files that a data directory lacks; those of an earlier start stay, so that its clients'
// credentials keep working.
func writeFiles(dataDir, tokens string) (stateFiles, error) {
	certDir := filepath.Join(dataDir, "certificates")
	files := stateFiles{
		certDir:            certDir,
		caFile:             filepath.Join(certDir, "apiserver.crt"),
		adminTokenFile:     filepath.Join(dataDir, "admin.token"),
		tokenFile:          filepath.Join(dataDir, "tokens.csv"),
		signingKeyFile:     filepath.Join(dataDir, "service-account.key"),
		authenticationFile: filepath.Join(dataDir, "authentication.yaml"),
	}
	if err := os.MkdirAll(certDir, 0o700); err != nil {
		return files, err
	}
	if err := writeNew(files.adminTokenFile, newToken); err != nil {
		return files, err
	}
	if err := writeNew(files.signingKeyFile, newSigningKey); err != nil {
		return files, err
	}
	if err := os.WriteFile(files.authenticationFile, []byte(authenticationConfig), 0o600); err != nil {
		return files, err
	}
	adminToken, err := os.ReadFile(files.adminTokenFile)
	if err != nil {
		return files, err
	}
	users := fmt.Appendf(nil, "%s,admin,admin,\"system:masters\"\n", adminToken)
	if tokens != "" {
		further, err := os.ReadFile(tokens)
		if err != nil {
			return files, err
		}
		users = append(users, further...)
	}
	return files, os.WriteFile(files.tokenFile, users, 0o600)
}

// writeNew writes what content returns, unless the file exists.
func writeNew(path string, content func() ([]byte, error)) error {
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	bytes, err := content()
	if err != nil {
		return err
	}
	return os.WriteFile(path, bytes, 0o600)
}

func newToken() ([]byte, error) {
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		return nil, err
	}
	return []byte(hex.EncodeToString(random)), nil
}

// newSigningKey makes the key that signs and verifies the tokens of service accounts.
func newSigningKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}
