// The options that `server.mjs` and `demo.mjs` share: where calls are, and who signs tokens.

import { readFile } from 'node:fs/promises';
import { Cluster } from './cluster.mjs';
import { Standalone } from './standalone.mjs';
import { signingKey } from './token.mjs';

export const DIRECTORY_OPTIONS = /** @type {const} */ ({
  upstream: { type: 'string' },
  'private-key': { type: 'string' },
  kid: { type: 'string' },
  kubeconfig: { type: 'string' },
  kubectl: { type: 'string', default: process.env.KUBECTL ?? 'kubectl' },
  namespace: { type: 'string', default: 'callplane-system' },
});

export const DIRECTORY_HELP = `Where calls are, one of:
  --upstream URL          one media node, started by hand (--standalone)
  --private-key FILE      the key that signs its join tokens (PEM, P-256)
  --kid ID                the key's id [none: the node tries each key that it has]
or Kubernetes (when there is no --upstream):
  --kubeconfig FILE       [as kubectl finds it]
  --kubectl COMMAND       program and first arguments [$KUBECTL or kubectl]
  --namespace NAME        where media nodes and the signing key are [callplane-system]`;

/**
 * @param {{upstream?: string, 'private-key'?: string, kid?: string, kubeconfig?: string, kubectl: string, namespace: string}} options
 * @returns {Promise<import('./dev-server.mjs').CallDirectory>}
 */
export async function openDirectory(options) {
  if (options.upstream === undefined) {
    return Cluster.connect({
      kubectl: options.kubectl.split(' ').filter(Boolean),
      kubeconfig: options.kubeconfig,
      namespace: options.namespace,
    });
  }
  if (!options['private-key']) throw new Error('--upstream needs --private-key: the key that signs join tokens');
  const pem = await readFile(options['private-key']);
  return new Standalone(options.upstream.replace(/\/+$/, ''), signingKey(pem, options.kid));
}
