-- Tell open pages that services have changed. Has to be the last statement of its transaction.
SELECT announce('service', '', '', NULL)
