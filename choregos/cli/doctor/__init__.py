"""`choregos doctor`: looks at everything a fleet needs and says what is wrong, with the remedy.

Each check gives findings; none changes anything. `machine` looks at this computer, `directory` at the data
directory, `fleet` at what runs. Invariant: a check that breaks is a finding too, and never hides the others.
"""
