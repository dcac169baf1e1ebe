// Requests to the balancer that served the page. A 401 asks the person for the token, and the request goes on with it.

const KEPT = "mediaflow.token";
const DEADLINE_MS = 15_000;

/** An answer that is a problem (RFC 9457), or none at all (status 0). */
export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export class Api {
  /** `askToken(wasWrong)` resolves to what the person typed. */
  constructor(askToken) {
    this.askToken = askToken;
    this.asking = null;
  }

  get token() {
    return sessionStorage.getItem(KEPT) ?? "";
  }

  forget() {
    sessionStorage.removeItem(KEPT);
  }

  /** Answer with the response if it is 2xx; `deadlineMs` of 0 is for answers that never end. */
  async ask(path, {method = "GET", headers = {}, signal, deadlineMs = DEADLINE_MS} = {}) {
    for (;;) {
      const token = this.token;
      const signals = [signal, deadlineMs ? AbortSignal.timeout(deadlineMs) : null].filter(Boolean);
      let answer;
      try {
        answer = await fetch(path, {
          method,
          headers: token ? {...headers, Authorization: `Bearer ${token}`} : headers,
          signal: AbortSignal.any(signals),
          cache: "no-store",
        });
      } catch (error) {
        if (signal?.aborted) throw error;
        throw new Problem(0, error.name === "TimeoutError" ? "the balancer did not answer in time" : "the balancer cannot be reached");
      }
      if (answer.status === 401) await this.admit(token);
      else if (answer.ok) return answer;
      else throw new Problem(answer.status, await detail(answer));
    }
  }

  async json(path, options) {
    return (await this.ask(path, options)).json();
  }

  /** Ask for a token once, however many requests wait for it. */
  async admit(tried) {
    if (this.token !== tried) return;
    this.asking ??= this.askToken(tried !== "").then((token) => {
      sessionStorage.setItem(KEPT, token);
      this.asking = null;
    });
    await this.asking;
  }
}

async function detail(answer) {
  try {
    return (await answer.json()).detail ?? `status ${answer.status}`;
  } catch {
    return `status ${answer.status}`;
  }
}
