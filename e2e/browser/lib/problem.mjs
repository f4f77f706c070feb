// Errors that reach a client, as problem+json (RFC 9457) with a stable code.

export class Problem extends Error {
  /**
   * @param {number} status
   * @param {string} code
   * @param {string} detail
   */
  constructor(status, code, detail) {
    super(detail);
    this.status = status;
    this.code = code;
  }

  body() {
    return JSON.stringify({ type: 'about:blank', status: this.status, code: this.code, detail: this.message });
  }
}

/** @param {unknown} error @returns {Problem} */
export function asProblem(error) {
  if (error instanceof Problem) return error;
  return new Problem(500, 'internal', error instanceof Error ? error.message : String(error));
}
