/** What can go wrong, as a value with a kind to decide by. */

export type CreditsErrorKind =
  /** Nobody answered: the network or the server is away. */
  | "network"
  /** 401, although a new token was asked for. */
  | "unauthorized"
  /** 403. */
  | "forbidden"
  /** 404: the server has no key configured, or the address is another server's. */
  | "not_configured"
  /** 429 or 503: too many requests or connections, or no database at the moment. */
  | "busy"
  /** Another status. */
  | "server"
  /** An answer that is not creditsd's. */
  | "malformed"
  /** `getToken` threw. */
  | "token"
  /** `getToken` gave nothing: nobody is signed in. */
  | "signed_out"
  /** Another user signed in while the request was under way. */
  | "switched"
  /** The client was closed. */
  | "closed";

export class CreditsError extends Error {
  override readonly name = "CreditsError";
  readonly kind: CreditsErrorKind;
  /** The HTTP status, where there was one. */
  readonly status: number | undefined;
  /** How long the server asked to wait. */
  readonly retryAfterMs: number;

  constructor(kind: CreditsErrorKind, message: string, { status, retryAfterMs = 0, cause }: { status?: number; retryAfterMs?: number; cause?: unknown } = {}) {
    super(message, { cause });
    this.kind = kind;
    this.status = status;
    this.retryAfterMs = retryAfterMs;
  }
}

const KINDS: Readonly<Record<number, CreditsErrorKind>> = {
  401: "unauthorized",
  403: "forbidden",
  404: "not_configured",
  429: "busy",
  503: "busy",
};

/** Make the error of an answer that is not 2xx; its text is the server's own where that sent one. */
export async function refusal(response: Response): Promise<CreditsError> {
  const { status, headers } = response;
  const said = await response.json().catch(() => null) as { error?: unknown } | null;
  const text = typeof said?.error === "string" ? said.error : `the server answered ${status}`;
  // It may also be a date, which creditsd never sends.
  const retryAfterMs = Math.max(Number(headers.get("Retry-After")) * 1000 || 0, 0);
  return new CreditsError(KINDS[status] ?? "server", text, { status, retryAfterMs });
}

/** Make the error of an answer that is not creditsd's. */
export function malformed(what: string): CreditsError {
  return new CreditsError("malformed", `the answer is not a ${what}`);
}

/** What a page had better say: with a total at hand, a line that is lost for a while is none of its troubles. */
export function shownError({ total, error }: { readonly total: unknown; readonly error: CreditsError | null }): CreditsError | null {
  return error && (!total || ["unauthorized", "forbidden", "not_configured"].includes(error.kind)) ? error : null;
}
