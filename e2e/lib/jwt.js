import { createHmac, generateKeyPairSync, sign } from 'node:crypto';
import { remember } from './canaries.js';

const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
const body = (header, claims) => `${encode({ typ: 'JWT', ...header })}.${encode({ exp: Math.floor(Date.now() / 1000) + 3600, ...claims })}`;

const signed = (text, signature) => {
  remember('token', signature);
  return `${text}.${signature}`;
};

/** An HS256 token. */
export function token(secret, claims) {
  const text = body({ alg: 'HS256' }, claims);
  return signed(text, createHmac('sha256', secret).update(text).digest('base64url'));
}

const kinds = {
  RS256: ['rsa', { modulusLength: 2048 }, 'sha256'],
  ES256: ['ec', { namedCurve: 'P-256' }, 'sha256'],
  EdDSA: ['ed25519', {}, null],
};

/** A key pair for RS256, ES256 or EdDSA, as an issuer has it. */
export class Signer {
  constructor(algorithm, kid) {
    const [kind, options, hash] = kinds[algorithm];
    Object.assign(this, generateKeyPairSync(kind, options), { algorithm, hash, kid });
  }

  get pem() {
    return this.publicKey.export({ type: 'spki', format: 'pem' });
  }

  get jwk() {
    return { ...this.publicKey.export({ format: 'jwk' }), kid: this.kid, use: 'sig', alg: this.algorithm };
  }

  /** A signed token; `header` may lie. */
  token(claims, header = {}) {
    const text = body({ alg: this.algorithm, kid: this.kid, ...header }, claims);
    const signature = sign(this.hash, Buffer.from(text), { key: this.privateKey, dsaEncoding: 'ieee-p1363' });
    return signed(text, signature.toString('base64url'));
  }
}
