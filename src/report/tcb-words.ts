/** What Intel's ratings of a platform mean (Intel, "TCB recovery" and PCS API v4, tcbStatus). */
const WORDS: Record<string, string> = {
  UpToDate: 'Microcode, firmware and quoting enclave are as new as Intel asks for; nothing is open.',
  SWHardeningNeeded:
    'The platform is up to date, but the program itself has to be hardened against the advisories below. Whoever accepts this has to know that the program is.',
  ConfigurationNeeded:
    'The platform is up to date, but its BIOS settings leave the advisories below open (hyper-threading, for example).',
  ConfigurationAndSWHardeningNeeded:
    'The platform is up to date, but its BIOS settings, and the program, leave the advisories below open.',
  OutOfDate: 'The platform lacks security updates: the advisories below can be used against it.',
  OutOfDateConfigurationNeeded:
    'The platform lacks security updates, and its BIOS settings leave more open: the advisories below can be used against it.',
  TDRelaunchAdvised:
    'The platform was updated while the domain ran: it started under an older TDX module, and should be started again.',
  TDRelaunchAdvisedConfigurationNeeded:
    'The platform was updated while the domain ran: it should be started again, and BIOS settings leave the advisories below open.',
  Revoked: 'Intel revoked this platform: its keys are not to be trusted, whatever they sign.',
};

export const tcbWords = (status: string): string => WORDS[status] ?? 'A rating that this toolkit does not know.';
